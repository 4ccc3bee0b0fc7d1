"""CPU: too busy, held back, shared badly."""

from etio.core.alerts.kind import AlertKind

KINDS = (
    AlertKind("CpuSaturated", "warning", ("cpu_busy_ratio",), "all cores of the host are busy", for_s=6),
    AlertKind("CpuFull", "warning", ("cpu_busy_ratio",), "no core of the host has been idle for a while", for_s=7),
    AlertKind("RunQueueLong", "warning", ("cpu_runnable_per_core", "sched_run_delay_p99_seconds"),
              "many more runnable threads than cores", for_s=6),
    AlertKind("CoreCrowded", "warning", ("cpu_core_busy_ratio",), "tasks wait for a core while others are idle",
              for_s=5, grace_s=2.5),
    AlertKind("CgroupCpuThrottled", "warning", ("cgroup_cpu_throttled_ratio",),
              "{entity} is held back by its CPU quota"),
    AlertKind("CpuStealHigh", "warning", ("cpu_mode_ratio",), "the hypervisor takes CPU time away", for_s=15),
    AlertKind("SoftirqSaturated", "warning", ("cpu_core_softirq_ratio",),
              "core {entity} does nothing but interrupts while others idle", for_s=10, grace_s=2.5),
    AlertKind("CpuThrottled", "warning", (), "CPUs are slowed down by heat", for_s=0, clear_s=60, model="asset",
              events=("cpu_throttled",)),
)
