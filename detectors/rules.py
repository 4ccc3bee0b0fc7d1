"""The table behind detectors.hard_rules: what is wrong on any host, whatever it did before.

Every threshold is a field of Config, so that a person can move it and a typo in the file is refused.
"""

from dataclasses import dataclass

from detectors.rule import Condition, Rule
from detectors.rules_gpu import gpu_rules
from detectors.rules_memory import memory_rules
from detectors.rules_tables import table_rules

PSI = "Documentation/accounting/psi.rst"
PROC = "Documentation/filesystems/proc.rst"
READ_ONLY_IMAGES = ("squashfs", "iso9660", "erofs", "cramfs", "udf")


@dataclass(frozen=True, slots=True)
class Config:
    """Thresholds, named alert first; units are those of the series."""

    cpu_saturated_busy_ratio: float = 0.95
    cpu_saturated_pressure_ratio: float = 0.20
    cpu_saturated_runnable_per_core: float = 1.5
    cpu_nice_ratio: float = 0.5
    cpu_full_busy_ratio: float = 0.97
    cpu_full_runnable_per_core: float = 1.0
    run_queue_long_runnable_per_core: float = 4.0
    run_queue_long_busy_ratio: float = 0.9
    cgroup_throttled_ratio: float = 0.25
    cgroup_throttled_seconds_per_second: float = 0.1
    cpu_steal_ratio: float = 0.2
    memory_pressure_ratio: float = 0.1
    memory_low_available_ratio: float = 0.04
    cgroup_memory_failures_per_second: float = 50.0
    cgroup_memory_used_ratio: float = 0.5
    cgroup_memory_refaults_per_second: float = 500.0
    cgroup_cache_refaults_per_second: float = 20_000.0
    cgroup_cache_slow_refaults_per_second: float = 1_000.0
    cgroup_cache_failures_per_second: float = 10.0
    cgroup_cache_io_pressure_ratio: float = 0.3
    cgroup_memory_oom_waiting: float = 0.5
    swap_pages_per_second: float = 500.0
    disk_busy_ratio: float = 0.95
    disk_queue_length: float = 4.0
    disk_queue_length_without_pressure: float = 8.0
    disk_writeback_bytes: float = 32 * 2.0**20
    disk_saturated_pressure_ratio: float = 0.3
    disk_slow_latency_seconds: float = 0.25
    disk_slow_flush_seconds: float = 0.25
    disk_slow_requests_per_second: float = 1.0
    disk_slow_pressure_ratio: float = 0.1
    io_stalled_pressure_ratio: float = 0.9
    io_stalled_blocked_tasks: float = 3.0
    io_stalled_requests_per_second: float = 0.5
    writers_held_back_seconds_per_second: float = 1.1
    filesystem_used_ratio: float = 0.95
    filesystem_available_bytes: float = 5 * 2.0**30
    filesystem_used_anyway_ratio: float = 0.99
    filesystem_inodes_used_ratio: float = 0.95
    filesystem_readonly: float = 0.5
    packet_loss_retransmits_per_second: float = 5.0
    packet_loss_ratio: float = 0.02
    packet_loss_retransmits_anyway_per_second: float = 20.0
    packet_loss_host_ratio: float = 0.03
    queue_drops_per_second: float = 50.0
    listen_overflows_per_second: float = 1.0
    connect_failures_per_second: float = 0.9
    connects_refused_per_second: float = 30.0
    connect_failure_ratio: float = 0.2
    softirq_core_ratio: float = 0.8
    softirq_host_busy_ratio: float = 0.8
    rdma_errors_per_second: float = 1.0
    rdma_resent_per_second: float = 10.0
    rdma_ack_timeouts_per_second: float = 1.0
    syn_cookies_per_second: float = 5.0
    syn_queue_drops_per_second: float = 5.0
    no_local_port_per_second: float = 0.5
    neighbour_overflows_per_second: float = 0.5
    conntrack_drops_per_second: float = 0.5
    tcp_memory_pressure_ratio: float = 0.2
    tcp_memory_used_ratio: float = 1.0
    conntrack_used_ratio: float = 0.95
    file_handles_used_ratio: float = 0.9
    pids_used_ratio: float = 0.9
    cgroup_pids_used_ratio: float = 0.95
    fork_storm_forks_per_second: float = 400.0
    fork_storm_repeats_ratio: float = 0.6
    fork_storm_execs_ratio: float = 0.3
    task_stuck_seconds: float = 3.0
    core_crowded_busy_ratio: float = 0.95
    core_crowded_others_ratio: float = 0.8
    core_crowded_pressure_ratio: float = 0.5
    core_crowded_runnable_tasks: float = 2.0
    cgroup_io_limit_used_ratio: float = 0.9
    udp_buffer_errors_per_second: float = 20.0
    nvme_warning: float = 0.5
    nvme_throttled_ratio: float = 0.1
    gpu_thermal_throttle_ratio: float = 0.1
    gpu_brake_ratio: float = 0.05
    gpu_hardware_slowdown_ratio: float = 0.2
    gpu_cool_ratio: float = 0.02
    gpu_power_limit_ratio: float = 0.95
    gpu_power_throttle_ratio: float = 0.5
    gpu_busy_ratio: float = 0.5
    gpu_working_ratio: float = 0.02
    gpu_resident_ratio: float = 0.95
    gpu_resident_least_ratio: float = 0.02
    gpu_job_stalled_seconds: float = 300.0
    gpu_pcie_width_ratio: float = 0.6
    gpu_pcie_generation_ratio: float = 0.8
    gpu_clock_ratio: float = 0.75
    gpu_clock_setting_ratio: float = 0.9
    gpu_memory_full_ratio: float = 0.99
    gpu_starved_most_ratio: float = 0.4
    gpu_starved_least_ratio: float = 0.02
    gpu_starved_held_ratio: float = 0.2
    gpu_starved_pressure_ratio: float = 0.4
    gpu_nvlink_checksums_per_second: float = 100.0
    gpu_nvlink_repairs_per_second: float = 0.1
    gpu_flag: float = 0.5
    errors_per_second: float = 1e-3

    def __post_init__(self) -> None:
        bad = [name for name in self.__slots__ if not getattr(self, name) > 0]
        if bad:
            raise ValueError(f"{', '.join(bad)}: must be positive")


def table(limits: Config) -> tuple[Rule, ...]:
    """All rules with the given thresholds.

    >>> len({rule.alert for rule in table(Config())}) > 50
    True
    """
    return (*_cpu(limits), *memory_rules(limits), *_disk(limits), *_filesystem(limits), *_network(limits),
            *_kernel(limits), *_drives(limits), *gpu_rules(limits))


def _cpu(c: Config) -> tuple[Rule, ...]:
    runnable = Condition("cpu_runnable_per_core", ">=", c.cpu_saturated_runnable_per_core)
    # What was started with a lower priority takes what nobody else wants, and may queue for it.
    wanted = Condition("cpu_mode_ratio", "<=", c.cpu_nice_ratio, (("mode", "nice"),),
                       instead=Condition("cpu_busy_ratio", ">=", c.cpu_nice_ratio))
    return (
        Rule("CpuSaturated",
             (Condition("cpu_busy_ratio", ">=", c.cpu_saturated_busy_ratio),
              Condition("pressure_cpu_some_ratio", ">=", c.cpu_saturated_pressure_ratio, instead=runnable), wanted),
             "no idle time is left and tasks wait for it", PSI),
        # One hog per core leaves nothing to wait for but the hogs themselves: pressure stays near 0.
        Rule("CpuFull",
             (Condition("cpu_busy_ratio", ">=", c.cpu_full_busy_ratio),
              Condition("cpu_runnable_per_core", ">=", c.cpu_full_runnable_per_core), wanted),
             "no idle time is left on any core", PROC),
        Rule("RunQueueLong",
             (Condition("cpu_runnable_per_core", ">=", c.run_queue_long_runnable_per_core),
              Condition("cpu_busy_ratio", ">=", c.run_queue_long_busy_ratio), wanted),
             "several runnable tasks share each core", PROC),
        Rule("CgroupCpuThrottled",
             (Condition("cgroup_cpu_throttled_ratio", ">=", c.cgroup_throttled_ratio),
              Condition("cgroup_cpu_throttled_seconds_per_second", ">=", c.cgroup_throttled_seconds_per_second)),
             "the group hits its CPU quota in many periods and loses time by it",
             "Documentation/scheduler/sched-bwc.rst"),
        # One busy core is a program of one thread. That others wait for it while cores are idle is what hurts.
        Rule("CoreCrowded",
             (Condition("cpu_core_busy_ratio", ">=", c.core_crowded_busy_ratio),
              Condition("cpu_busy_ratio", "<=", c.core_crowded_others_ratio),
              Condition("pressure_cpu_some_ratio", ">=", c.core_crowded_pressure_ratio),
              Condition("cpu_runnable_tasks", ">=", c.core_crowded_runnable_tasks)),
             "tasks may only run on a core that is busy, while others have time", "sched_setaffinity(2)"),
        Rule("CpuStealHigh", (Condition("cpu_mode_ratio", ">=", c.cpu_steal_ratio, (("mode", "steal"),)),),
             "the hypervisor gives the time to others", PROC),
    )


def _disk(c: Config) -> tuple[Rule, ...]:
    pressure = "pressure_io_some_ratio"
    without = Condition("disk_queue_length", ">=", c.disk_queue_length_without_pressure)
    slow = tuple(
        Rule("DiskSlow",
             (Condition(f"disk_{way}_latency_seconds", ">=", c.disk_slow_latency_seconds),
              Condition(f"disk_{way}s_per_second", ">=", c.disk_slow_requests_per_second),
              Condition(pressure, ">=", c.disk_slow_pressure_ratio)),
             f"{way}s take long and tasks wait for them", "Documentation/admin-guide/iostats.rst")
        for way in ("read", "write")
    )
    # What a database waits for at each commit: the drive empties its cache.
    flush = Rule("DiskSlow",
                 (Condition("disk_flush_latency_seconds", ">=", c.disk_slow_flush_seconds),
                  Condition("disk_flushes_per_second", ">=", c.disk_slow_requests_per_second),
                  Condition(pressure, ">=", c.disk_slow_pressure_ratio)),
                 "flushes of its cache take long and tasks wait for them", "Documentation/admin-guide/iostats.rst")
    idle = tuple(Condition(f"disk_{way}s_per_second", "<=", c.io_stalled_requests_per_second, total=True)
                 for way in ("read", "write"))
    return (
        Rule("DiskSaturated",
             (Condition("disk_busy_ratio", ">=", c.disk_busy_ratio),
              Condition("disk_queue_length", ">=", c.disk_queue_length),
              Condition(pressure, ">=", c.disk_saturated_pressure_ratio, instead=without)),
             "the disk is never idle, requests queue and tasks wait for them", PSI),
        # Asynchronous direct I/O waits in io_getevents, which pressure does not count; what fills the queue while
        # little is under writeback is no page cache being flushed in the background, somebody asked for it.
        Rule("DiskSaturated",
             (Condition("disk_busy_ratio", ">=", c.disk_busy_ratio), without,
              Condition("memory_writeback_bytes", "<=", c.disk_writeback_bytes)),
             "the disk is never idle and more is asked of it than it can do", "Documentation/admin-guide/iostats.rst"),
        *slow, flush,
        Rule("CgroupIoThrottled", (Condition("cgroup_io_limit_used_ratio", ">=", c.cgroup_io_limit_used_ratio),),
             "the group uses all the I/O it may", "Documentation/admin-guide/cgroup-v2.rst"),
        Rule("IoStalled", (Condition("pressure_io_full_ratio", ">=", c.io_stalled_pressure_ratio), *idle),
             "all tasks wait for I/O and no disk completes any", PSI),
        Rule("IoStalled", (Condition("cpu_blocked_tasks", ">=", c.io_stalled_blocked_tasks), *idle),
             "tasks sleep uninterruptibly and no disk completes anything", PROC),
        # One that copies much sleeps nearly all the time and should; more than one means that others pay for it.
        Rule("WritersHeldBack",
             (Condition("dirty_throttle_seconds_per_second", ">=", c.writers_held_back_seconds_per_second),),
             "several writers are put to sleep at once", "mm/page-writeback.c"),
        Rule("BlockDeviceErrors", (Condition("block_errors_per_second", ">=", c.errors_per_second),),
             "requests to the device fail", "include/trace/events/block.h"),
    )


def _drives(c: Config) -> tuple[Rule, ...]:
    source = "NVM Express Base Specification 2.0, SMART / Health Information"
    failing = ("spare", "reliability", "readonly", "backup", "memory_region")
    return (
        *(Rule("NvmeFailing", (Condition(f"nvme_{what}_warning", ">=", c.nvme_warning),),
               "the drive warns of itself", source) for what in failing),
        Rule("NvmeMediaErrors", (Condition("nvme_media_errors_per_second", ">=", c.errors_per_second),),
             "the drive counts data that it could not get back", source),
        Rule("NvmeHot", (Condition("nvme_temperature_warning", ">=", c.nvme_warning),),
             "the drive warns of its temperature", source),
        Rule("NvmeHot", (Condition("nvme_throttled_ratio", ">=", c.nvme_throttled_ratio),),
             "the drive slows itself down for heat", source),
    )


def _filesystem(c: Config) -> tuple[Rule, ...]:
    images = ("type", READ_ONLY_IMAGES)
    why = "writes are about to fail with ENOSPC"
    used = Condition("filesystem_used_ratio", ">=", c.filesystem_used_ratio)
    writable = Condition("filesystem_readonly", "<=", c.filesystem_readonly, instead=used)
    return (
        Rule("FilesystemFull",
             (Condition("filesystem_used_ratio", ">=", c.filesystem_used_ratio),
              Condition("filesystem_available_bytes", "<=", c.filesystem_available_bytes), writable),
             why, "statvfs(3)", images),
        Rule("FilesystemFull", (Condition("filesystem_used_ratio", ">=", c.filesystem_used_anyway_ratio), writable),
             why, "statvfs(3)", images),
        Rule("FilesystemInodesFull",
             (Condition("filesystem_inodes_used_ratio", ">=", c.filesystem_inodes_used_ratio),),
             "new files are about to fail with ENOSPC", "statvfs(3)", images),
    )


def _network(c: Config) -> tuple[Rule, ...]:
    resent = "net_retransmits_per_second"
    source = "RFC 9293, RFC 6298; Documentation/networking/snmp_counter.rst"
    return (
        Rule("PacketLoss",
             (Condition(resent, ">=", c.packet_loss_retransmits_per_second),
              Condition(resent, ">=", c.packet_loss_ratio, per="tcp_segments_sent_per_second")),
             "a good part of what TCP sends must be sent again", source),
        Rule("PacketLoss", (Condition(resent, ">=", c.packet_loss_retransmits_anyway_per_second),),
             "TCP sends much again, in some network namespace", source),
        Rule("PacketLoss",
             (Condition("tcp_retransmit_ratio", ">=", c.packet_loss_host_ratio),
              Condition("tcp_retransmits_per_second", ">=", c.packet_loss_retransmits_per_second)),
             "a good part of what TCP sends must be sent again", source),
        Rule("ListenOverflow", (Condition("tcp_listen_overflows_per_second", ">=", c.listen_overflows_per_second),),
             "a server does not accept connections as fast as they come", "listen(2)"),
        Rule("UdpOverflow",
             (Condition("udp_receive_buffer_errors_per_second", ">=", c.udp_buffer_errors_per_second),),
             "a program reads its datagrams slower than they come", "udp(7)"),
        # A few are how a full link slows TCP down; so many are lost work, also where nobody sends them again.
        *(Rule("QueueDrops", (Condition("net_drops_per_second", ">=", c.queue_drops_per_second,
                                        (("reason", reason),)),),
               "a shaper, a rate limit or a short queue lets less out than is sent", "tc(8), skb:kfree_skb")
          for reason in ("QDISC_DROP", "QDISC_OVERLIMIT", "FQ_BAND_LIMIT", "FQ_FLOW_LIMIT")),
        *_connections(c),
        *_rdma(c),
        # A host that is busy as a whole has no core to spare, and that is another trouble.
        Rule("SoftirqSaturated",
             (Condition("cpu_core_softirq_ratio", ">=", c.softirq_core_ratio),
              Condition("cpu_busy_ratio", "<=", c.softirq_host_busy_ratio)),
             "one core has no time but for interrupts", "Documentation/networking/scaling.rst"),
        *table_rules(c),
    )


def _connections(c: Config) -> tuple[Rule, ...]:
    """Who knocks until somebody is there is refused now and then, at most every 50 ms or so, 20 times a second; work
    that cannot be done is refused all the time."""
    failures, ratio = "net_connect_failures_per_second", Condition("net_connect_failure_ratio", ">=",
                                                                  c.connect_failure_ratio)
    unanswered = tuple(
        Rule("ConnectFailures",
             (Condition(failures, ">=", c.connect_failures_per_second, (("reason", reason),)), ratio),
             "programs wait for a peer that does not answer", "RFC 9293, RFC 6298")
        for reason in ("abandoned", "timed_out", "unreachable"))
    return (*unanswered, Rule(
        "ConnectFailures", (Condition(failures, ">=", c.connects_refused_per_second, (("reason", "refused"),)), ratio),
        "nobody listens where programs connect all the time", "RFC 9293, 3.10.7.1"))


def _rdma(c: Config) -> tuple[Rule, ...]:
    source = "Documentation/ABI/stable/sysfs-class-infiniband"
    wire = {"symbol_errors": c.rdma_errors_per_second, "receive_errors": c.rdma_errors_per_second,
            "icrc_errors": c.rdma_errors_per_second, "link_recoveries": c.errors_per_second,
            "link_integrity_errors": c.errors_per_second}
    resent = {"sequence_errors": c.rdma_resent_per_second, "adaptive_retransmits": c.rdma_resent_per_second,
              "ack_timeouts": c.rdma_ack_timeouts_per_second}
    return (
        *(Rule("RdmaErrors", (Condition(f"rdma_{what}_per_second", ">=", limit),), "the wire damages packets", source)
          for what, limit in wire.items()),
        *(Rule("RdmaRetransmits", (Condition(f"rdma_{what}_per_second", ">=", limit),),
               "packets are lost between hosts that expect none to be", source) for what, limit in resent.items()),
    )


def _kernel(c: Config) -> tuple[Rule, ...]:
    return (
        *_forks(c),
        Rule("FileHandlesExhausted",
             (Condition("kernel_file_handles_used_ratio", ">=", c.file_handles_used_ratio),),
             "open(2) is about to fail with ENFILE", "Documentation/admin-guide/sysctl/fs.rst"),
        Rule("PidsExhausted", (Condition("kernel_pids_used_ratio", ">=", c.pids_used_ratio),),
             "fork(2) is about to fail with EAGAIN", "Documentation/admin-guide/sysctl/kernel.rst"),
        Rule("PidsExhausted", (Condition("cgroup_pids_used_ratio", ">=", c.cgroup_pids_used_ratio),),
             "fork(2) in the group is about to fail with EAGAIN", "Documentation/admin-guide/cgroup-v2.rst"),
        Rule("TasksStuck", (Condition("task_stuck_seconds_max", ">=", c.task_stuck_seconds),),
             "a task sleeps uninterruptibly and does not run once", "kernel/hung_task.c"),
    )


def _forks(c: Config) -> tuple[Rule, ...]:
    """Who unpacks hundreds of packages or runs a long script starts some programs in turn, each once for each piece of
    work; a storm starts the same one again and again, or nothing but copies of itself."""
    least, executed = c.fork_storm_forks_per_second, "process_execs_per_second"
    anyhow = Condition("cpu_forks_per_second", ">=", least)
    many = Condition("process_forks_per_second", ">=", least, instead=anyhow)
    return (
        Rule("ForkStorm", (many, Condition("process_exec_repeats_per_second", ">=", c.fork_storm_repeats_ratio,
                                           per=executed, instead=anyhow)),
             "one program is started over and over, at a rate no service needs", PROC),
        Rule("ForkStorm", (many, Condition(executed, "<=", c.fork_storm_execs_ratio, per="process_forks_per_second")),
             "processes and threads are made at a rate no service needs", PROC),
    )
