"""Which alerts exist, how long a condition must last before it pages, and which anomalies may page at all.

An alert begins either as a rule that physics decides (detectors/hard_rules.py), as a host event, or as an anomaly of a
*symptom* series: one whose rise hurts somebody (latency, stalls, losses). An anomaly of any other series is evidence,
never a page.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from etio.core.alert import MODELS, Alert, ModelClass, Severity
from etio.core.symptoms import SHIFTS, SYMPTOMS, Symptom

__all__ = ["ALERTS", "EVENT_ALERTS", "EVENT_CLEARS", "EVENT_HELD", "SHIFTS", "SYMPTOMS", "VIRTUAL", "AlertKind",
           "EngineConfig", "Symptom", "by_model", "model_of", "severity_of"]


@dataclass(frozen=True, slots=True)
class AlertKind:
    """One alert name.

    carriers: series that a person would look at, first present wins; they carry the value of the alert.
    for_s: seconds of condition, without a gap longer than grace_s, before it fires.
    clear_s: seconds without the condition before it resolves.
    subject: what is wrong, in plain words, with {entity} filled in.
    explain: whether this alert alone is worth a root-cause report.
    model: which of the three models raises it.

    One of severity "info" is evidence: it opens no incident and tells nobody, but joins an open incident.
    """

    name: str
    severity: Severity
    carriers: tuple[str, ...]
    subject: str
    for_s: float = 4.0
    clear_s: float = 15.0
    grace_s: float = 1.5
    explain: bool = True
    model: ModelClass = "running"


def _kinds(*kinds: AlertKind) -> dict[str, AlertKind]:
    return {kind.name: kind for kind in kinds}


def _of(model: ModelClass, *kinds: AlertKind) -> tuple[AlertKind, ...]:
    return tuple(replace(kind, model=model) for kind in kinds)


ALERTS: Mapping[str, AlertKind] = _kinds(
    AlertKind("CpuSaturated", "warning", ("cpu_busy_ratio",), "all cores of the host are busy", for_s=6),
    AlertKind("CpuFull", "warning", ("cpu_busy_ratio",), "no core of the host has been idle for a while", for_s=7),
    AlertKind("RunQueueLong", "warning", ("cpu_runnable_per_core", "sched_run_delay_p99_seconds"),
              "many more runnable threads than cores"),
    AlertKind("CgroupCpuThrottled", "warning", ("cgroup_cpu_throttled_ratio",),
              "{entity} is held back by its CPU quota"),
    AlertKind("CpuStealHigh", "warning", ("cpu_mode_ratio",), "the hypervisor takes CPU time away", for_s=15),
    AlertKind("MemoryPressure", "warning", ("pressure_memory_some_ratio",), "tasks wait for memory"),
    AlertKind("MemoryLow", "critical", ("memory_available_ratio",), "memory is almost used up"),
    AlertKind("CgroupMemoryPressure", "warning", ("cgroup_memory_failures_per_second", "cgroup_memory_used_ratio"),
              "{entity} keeps hitting its memory limit"),
    AlertKind("SwapThrashing", "critical", ("vm_swap_in_pages_per_second",), "memory is swapped in and out"),
    AlertKind("DiskSaturated", "warning", ("disk_busy_ratio",), "{entity} is saturated", for_s=6),
    AlertKind("DiskSlow", "warning", ("disk_read_latency_seconds", "disk_write_latency_seconds"),
              "{entity} answers slowly", for_s=6),
    AlertKind("IoStalled", "critical", ("pressure_io_full_ratio", "cpu_blocked_tasks"), "I/O makes no progress",
              for_s=8),
    AlertKind("WritersHeldBack", "warning", ("dirty_throttle_seconds_per_second",),
              "writers sleep until their pages are on disk", for_s=8),
    AlertKind("FilesystemFull", "critical", ("filesystem_used_ratio",), "{entity} is full", for_s=2),
    AlertKind("FilesystemInodesFull", "critical", ("filesystem_inodes_used_ratio",), "{entity} is out of inodes",
              for_s=2),
    AlertKind("PacketLoss", "warning", ("net_retransmits_per_second", "tcp_retransmit_ratio"),
              "TCP segments are lost", for_s=3, grace_s=3.5),
    AlertKind("ListenOverflow", "warning", ("tcp_listen_overflows_per_second",), "a listening socket drops connections",
              for_s=3, grace_s=2.5),
    AlertKind("ConnectFailures", "warning", ("net_connect_failures_per_second",),
              "outgoing connections get no answer", for_s=8, grace_s=5.5),
    AlertKind("SoftirqSaturated", "warning", ("cpu_core_softirq_ratio",),
              "core {entity} does nothing but interrupts while others idle", for_s=10, grace_s=2.5),
    AlertKind("RdmaRetransmits", "warning", ("rdma_sequence_errors_per_second", "rdma_ack_timeouts_per_second"),
              "{entity} has to send RDMA packets again", for_s=8, grace_s=6),
    AlertKind("ConntrackFull", "critical", ("conntrack_used_ratio",), "the connection tracking table is full", for_s=3),
    AlertKind("FileHandlesExhausted", "critical", ("kernel_file_handles_used_ratio",), "file handles run out", for_s=3),
    AlertKind("PidsExhausted", "critical", ("kernel_pids_used_ratio", "cgroup_pids_used_ratio"),
              "{entity} runs out of process ids", for_s=3),
    AlertKind("FdsExhausted", "critical", ("task_fds_used_ratio_max",), "{entity} may open no more files", for_s=0,
              clear_s=30),
    AlertKind("UserTasksExhausted", "critical", ("task_user_tasks_used_ratio_max",),
              "user {entity} may start no more tasks", for_s=0, clear_s=30),
    AlertKind("ZombiesPileUp", "warning", ("task_zombies_of_one_parent_max",),
              "{entity} does not collect its dead children", for_s=0, clear_s=30),
    AlertKind("CoreCrowded", "warning", ("cpu_core_busy_ratio",), "tasks wait for a core while others are idle",
              for_s=5, grace_s=2.5),
    AlertKind("CgroupIoThrottled", "warning", ("cgroup_io_limit_used_ratio",), "{entity} is held back by its I/O limit",
              for_s=5, grace_s=2.5),
    AlertKind("PortsExhausted", "critical", ("tcp_local_ports_used_ratio",),
              "no local port is left for connections to {entity}", for_s=0, clear_s=30),
    AlertKind("ProcessStopped", "warning", (), "{entity} is stopped and does nothing", for_s=0, clear_s=30),
    AlertKind("ClockJumped", "warning", (), "the wall clock was set", for_s=0, clear_s=60),
    AlertKind("UdpOverflow", "warning", ("udp_receive_buffer_errors_per_second",),
              "datagrams are lost because a receiver is too slow", for_s=4, grace_s=2.5),
    AlertKind("ForkStorm", "warning", ("process_forks_per_second", "cpu_forks_per_second"),
              "processes are created at a very high rate"),
    AlertKind("MemoryLeak", "warning", ("memory_available_ratio",), "memory of {entity} grows without end", for_s=30,
              clear_s=120),
    AlertKind("FilesystemFillsSoon", "warning", ("filesystem_available_bytes",), "{entity} fills up", for_s=5,
              clear_s=120, grace_s=10),
    AlertKind("InodesRunOutSoon", "warning", ("filesystem_inodes_used_ratio",), "{entity} runs out of inodes", for_s=5,
              clear_s=120, grace_s=10),
    AlertKind("MemoryExhaustsSoon", "warning", ("memory_available_bytes",), "memory is being used up", for_s=20,
              clear_s=120, grace_s=25),
    AlertKind("SwapExhaustsSoon", "warning", ("memory_swap_used_ratio",), "swap is being used up", for_s=20,
              clear_s=120, grace_s=25),
    AlertKind("FileHandlesRunOutSoon", "warning", ("kernel_file_handles_used_ratio",), "file handles are being used up",
              for_s=20, clear_s=120, grace_s=25),
    AlertKind("PidsRunOutSoon", "warning", ("kernel_pids_used_ratio", "cgroup_pids_used_ratio"),
              "{entity} uses up its process ids", for_s=5, clear_s=120, grace_s=10),
    AlertKind("ConntrackFillsSoon", "warning", ("conntrack_used_ratio",), "the connection tracking table fills up",
              for_s=5, clear_s=120, grace_s=10),
    AlertKind("GpuMemoryExhaustsSoon", "warning", ("gpu_memory_used_ratio",), "memory of {entity} is being used up",
              for_s=20, clear_s=300, grace_s=125),
    AlertKind("SlowDegradation", "info", (), "{entity} gets slower", for_s=10, clear_s=600, grace_s=125,
              explain=False),
    AlertKind("SignalStuck", "warning", (), "{entity} delivers the same numbers again and again", for_s=5, clear_s=30,
              explain=False),
    AlertKind("SignalMissing", "warning", (), "{entity} has stopped to deliver some of its numbers", for_s=5,
              clear_s=30, explain=False),
    AlertKind("TasksStuck", "critical", ("task_stuck_seconds_max",), "tasks hang in the kernel", for_s=5),
    AlertKind("KvCacheFull", "warning", ("inference_kv_cache_used_ratio",), "the KV cache of {entity} is full",
              grace_s=3.5),
    AlertKind("ServingQueueLong", "warning", ("inference_waiting_requests",), "requests pile up at {entity}"),
    AlertKind("ServingLatencyHigh", "warning", ("inference_e2e_latency_p50_seconds",), "{entity} answers late",
              for_s=10, grace_s=5.5),
    AlertKind("ServingThroughputLow", "warning", ("inference_generated_tokens_per_second",),
              "{entity} gives fewer tokens than before at the same load", for_s=10, grace_s=2.5),
    AlertKind("ServingGpuIdle", "warning", ("inference_waiting_requests",),
              "requests wait at {entity} although no GPU is busy", for_s=10, grace_s=2.5),
    AlertKind("ServingSlow", "warning", ("inference_step_seconds",), "{entity} is slower than its load explains",
              for_s=20, grace_s=5.5, clear_s=30),
    AlertKind("ServingDown", "critical", ("inference_server_up",), "{entity} does not answer", for_s=4),
    AlertKind("GpuMemoryFull", "warning", ("gpu_memory_used_ratio",), "memory of {entity} is full", for_s=30),
    AlertKind("GpuStarved", "warning", ("gpu_utilization_ratio",),
              "{entity} works in pieces while its host is short of CPU or I/O", for_s=30, grace_s=5),
    AlertKind("NumaRemoteMemory", "warning", ("numa_other_node_per_second",),
              "much memory comes from another NUMA node", for_s=20, clear_s=60),
    AlertKind("GpuProgramXid", "warning", (), "a program failed on {entity}", for_s=0, clear_s=60),
    AlertKind("RankStraggling", "warning", ("gpu_job_own_seconds",),
              "{entity} (job, rank) computes longer than it should", for_s=0, clear_s=60, grace_s=15),
    AlertKind("SeriesAnomaly", "warning", (), "{entity} is far outside its usual range", for_s=8, clear_s=30),
    AlertKind("PeerDeviation", "warning", (), "{entity} differs from its peers", for_s=20, clear_s=60),
    AlertKind("SubsystemAnomaly", "info", (), "{entity} behaves unlike before", for_s=20, clear_s=60, explain=False),
    AlertKind("HostAnomaly", "info", (), "the host as a whole is unlike itself", for_s=5, clear_s=30, explain=False),
    *_of(
        "asset",
        AlertKind("OomKill", "critical", (), "the kernel killed a process for want of memory", for_s=0, clear_s=60),
        AlertKind("FilesystemReadOnly", "critical", ("filesystem_readonly",), "{entity} became read-only", for_s=0,
                  clear_s=60),
        AlertKind("LinkDown", "critical", ("network_link_up",), "link {entity} went down", for_s=0, clear_s=30),
        AlertKind("LinkDegraded", "warning", ("network_link_speed_bytes_per_second",),
                  "link {entity} runs slower than before, or half duplex", for_s=0, clear_s=30),
        AlertKind("RdmaLinkDown", "critical", ("rdma_link_up",), "RDMA port {entity} went down", for_s=0, clear_s=30),
        AlertKind("RdmaErrors", "warning", ("rdma_symbol_errors_per_second",), "{entity} has errors on the wire",
                  for_s=4, grace_s=6, clear_s=60),
        AlertKind("GpuXid", "critical", (), "{entity} reported an XID error", for_s=0, clear_s=60),
        AlertKind("GpuThrottled", "warning", ("gpu_throttle_thermal_ratio",), "{entity} is slowed down by heat",
                  for_s=10),
        AlertKind("GpuUnresponsive", "critical", (), "the driver of the GPUs does not answer", for_s=0, clear_s=30),
        AlertKind("GpuPowerBrake", "critical", ("gpu_throttle_brake_ratio", "gpu_clock_event_ratio"),
                  "{entity} is slowed down by its power supply", for_s=5),
        AlertKind("GpuPowerCapped", "warning", ("gpu_power_limit_watts",),
                  "{entity} is held down by a power limit below that of the maker", for_s=30),
        AlertKind("GpuClocksLow", "warning", ("gpu_sm_clock_hertz",),
                  "{entity} is busy at clocks that somebody set low", for_s=30),
        AlertKind("GpuPcieDegraded", "warning", ("gpu_pcie_link_width", "gpu_pcie_link_generation"),
                  "{entity} has a slower PCIe link than it could have", for_s=30, clear_s=60),
        AlertKind("GpuNvlinkErrors", "warning", ("gpu_nvlink_errors_per_second",), "NVLinks of {entity} have errors",
                  for_s=8, grace_s=5, clear_s=60),
        AlertKind("GpuNvlinkDown", "critical", ("gpu_nvlink_links_down",), "an NVLink of {entity} is down", for_s=2,
                  clear_s=60),
        AlertKind("GpuRowRemapPending", "warning", ("gpu_rows_remap_pending", "gpu_pages_retire_pending"),
                  "memory of {entity} is to be repaired at its next reset", for_s=2),
        AlertKind("GpuRowRemapFailed", "critical", ("gpu_rows_remap_failed",), "memory of {entity} cannot be repaired",
                  for_s=2),
        AlertKind("GpuEccErrors", "critical", ("gpu_ecc_uncorrected_per_second",),
                  "{entity} has uncorrectable memory errors", for_s=0, clear_s=60),
        AlertKind("BlockDeviceErrors", "critical", ("block_errors_per_second",), "{entity} returns I/O errors", for_s=0,
                  clear_s=60),
        AlertKind("HungTask", "critical", (), "the kernel says that {entity} hangs", for_s=0, clear_s=150),
        AlertKind("RemoteFilesystemGone", "critical", (), "{entity} of a network file system does not answer", for_s=0,
                  clear_s=150),
        AlertKind("KernelIoError", "critical", (), "requests to {entity} fail", for_s=0, clear_s=60),
        AlertKind("FilesystemError", "critical", (), "the file system on {entity} is damaged", for_s=0, clear_s=60),
        AlertKind("MemoryError", "critical", (), "{entity} has an uncorrectable memory error", for_s=0, clear_s=60),
        AlertKind("MachineCheck", "critical", (), "{entity} reported a hardware error", for_s=0, clear_s=60),
        AlertKind("PcieError", "critical", (), "{entity} has a PCIe error", for_s=0, clear_s=60),
        AlertKind("NicReset", "warning", (), "{entity} had to be reset", for_s=0, clear_s=60),
        AlertKind("CpuThrottled", "warning", (), "CPUs are slowed down by heat", for_s=0, clear_s=60),
        AlertKind("SoftLockup", "critical", (), "{entity} is stuck in the kernel", for_s=0, clear_s=60),
        AlertKind("KernelOops", "critical", (), "the kernel met an error of its own", for_s=0, clear_s=60),
        AlertKind("ErrorsCorrected", "info", (), "{entity} corrected errors of the hardware", for_s=0, clear_s=600,
                  explain=False),
        AlertKind("ProcessCrashed", "info", (), "{entity} crashed", for_s=0, clear_s=60, explain=False),
    ),
    *_of(
        "behaviour",
        AlertKind("CrashLoop", "warning", (), "{entity} ends and is started again without end", for_s=0, clear_s=60),
        AlertKind("BehaviourNew", "info", (), "{entity} is new on this host", for_s=0, clear_s=120, explain=False),
        AlertKind("BehaviourSuspect", "warning", (), "a program that this host never ran before computes: {entity}",
                  for_s=0, clear_s=120),
    ),
)

EVENT_ALERTS: Mapping[str, str] = {
    "oom_kill": "OomKill",
    "link_down": "LinkDown",
    "link_degraded": "LinkDegraded",
    "rdma_link_down": "RdmaLinkDown",
    "filesystem_readonly": "FilesystemReadOnly",
    "gpu_xid": "GpuXid",
    "gpu_program_xid": "GpuProgramXid",
    "gpu_lost": "GpuXid",
    "gpu_unresponsive": "GpuUnresponsive",
    "hung_task": "HungTask",
    "nfs_not_responding": "RemoteFilesystemGone",
    "block_io_error": "KernelIoError",
    "block_device_reset": "KernelIoError",
    "filesystem_error": "FilesystemError",
    "memory_error": "MemoryError",
    "machine_check": "MachineCheck",
    "pcie_error": "PcieError",
    "nic_reset": "NicReset",
    "cpu_throttled": "CpuThrottled",
    "soft_lockup": "SoftLockup",
    "hard_lockup": "SoftLockup",
    "rcu_stall": "SoftLockup",
    "kernel_oops": "KernelOops",
    "memory_error_corrected": "ErrorsCorrected",
    "machine_check_corrected": "ErrorsCorrected",
    "pcie_error_corrected": "ErrorsCorrected",
    "segfault": "ProcessCrashed",
    "fds_exhausted": "FdsExhausted",
    "user_tasks_exhausted": "UserTasksExhausted",
    "zombies_pile_up": "ZombiesPileUp",
    "process_stopped": "ProcessStopped",
    "clock_jumped": "ClockJumped",
    "ports_exhausted": "PortsExhausted",
    "crash_loop": "CrashLoop",
    "behaviour_new": "BehaviourNew",
    "behaviour_suspect": "BehaviourSuspect",
}
"""Host events that are alerts by themselves."""

VIRTUAL = ("veth", "virbr", "docker", "br-", "tap", "tun", "dummy", "loop", "zram", "ram", "cali", "flannel", "vnet")
"""Names of network and block devices that are made of software start like this."""

EVENT_CLEARS: Mapping[str, str] = {
    "link_up": "LinkDown", "link_removed": "LinkDown", "link_restored": "LinkDegraded",
    "rdma_link_up": "RdmaLinkDown", "nfs_responding": "RemoteFilesystemGone", "gpu_responsive": "GpuUnresponsive",
    "fds_released": "FdsExhausted", "user_tasks_released": "UserTasksExhausted", "zombies_gone": "ZombiesPileUp",
    "ports_released": "PortsExhausted", "process_continued": "ProcessStopped",
    "crash_loop_over": "CrashLoop"}
"""Host events that end the alert of the same entity."""

EVENT_HELD: frozenset[str] = frozenset({
    "link_down", "link_degraded", "rdma_link_down", "gpu_unresponsive",
    "fds_exhausted", "user_tasks_exhausted", "zombies_pile_up", "crash_loop", "ports_exhausted",
    "process_stopped"})
"""Events that describe a lasting state: their alert stays until cleared, not for a fixed time."""


def model_of(alert: str) -> ModelClass:
    """Which model raises an alert of this name; "running" for one that is no longer known.

    >>> model_of("CpuSaturated"), model_of("GpuXid"), model_of("BehaviourNew")
    ('running', 'asset', 'behaviour')
    """
    kind = ALERTS.get(alert)
    return kind.model if kind is not None else "running"


def severity_of(alert: str, labels: Mapping[str, str]) -> Severity:
    """Severity of an event's alert, by what it speaks of: a device that is made of software is never critical.

    >>> severity_of("LinkDown", {"device": "eth0"}), severity_of("LinkDown", {"device": "veth3f"})
    ('critical', 'warning')
    """
    severity = ALERTS[alert].severity
    made = labels.get("device", "").startswith(VIRTUAL)
    return "warning" if made and severity == "critical" else severity


def by_model(alerts: Iterable[Alert]) -> dict[ModelClass, tuple[str, ...]]:
    """Names of the alerts that each of the three models raised, in order; models that raised none are left out."""
    names = {m: tuple(dict.fromkeys(a.name for a in alerts if model_of(a.name) == m)) for m in MODELS}
    return {model: found for model, found in names.items() if found}


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """How alerts become incidents and reports.

    group_s: an alert that begins within so many seconds of an open incident belongs to it.
    settle_s: how long the first report waits for the rest of the picture after the first alert fires.
    refresh_s: a report is made again when graver alerts joined, at most this often.
    mute: alert names that never fire. for_s: per-alert overrides of AlertKind.for_s, in seconds.
    """

    group_s: float = 30.0
    settle_s: float = 1.0
    refresh_s: float = 10.0
    reopen_s: float = 60.0
    mute: tuple[str, ...] = ()
    for_s: dict[str, float] = field(default_factory=dict)
    anomalies: bool = True

    def __post_init__(self) -> None:
        for name in (*self.mute, *self.for_s):
            if name not in ALERTS:
                raise ValueError(f"{name!r} is no alert; known: {', '.join(sorted(ALERTS))}")
