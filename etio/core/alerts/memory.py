"""Memory: pressure, limits, leaks, and trends that end in want of it."""

from etio.core.alerts.kind import AlertKind

KINDS = (
    AlertKind("MemoryPressure", "warning", ("pressure_memory_some_ratio",), "tasks wait for memory"),
    AlertKind("MemoryLow", "critical", ("memory_available_ratio",), "memory is almost used up"),
    AlertKind("CgroupMemoryPressure", "warning", ("cgroup_memory_failures_per_second", "cgroup_memory_used_ratio"),
              "{entity} keeps hitting its memory limit"),
    AlertKind("CgroupOutOfMemory", "critical", ("cgroup_memory_oom_waiting",),
              "processes of {entity} wait for memory that nobody frees"),
    AlertKind("SwapThrashing", "critical", ("vm_swap_in_pages_per_second",), "memory is swapped in and out"),
    AlertKind("OomKill", "critical", (), "the kernel killed a process for want of memory", for_s=0, clear_s=60,
              model="asset", events=("oom_kill",)),
    AlertKind("MemoryLeak", "warning", ("memory_available_ratio",), "memory of {entity} grows without end", for_s=30,
              clear_s=120),
    AlertKind("MemoryExhaustsSoon", "warning", ("memory_available_bytes",), "memory is being used up", for_s=20,
              clear_s=120, grace_s=25),
    AlertKind("SwapExhaustsSoon", "warning", ("memory_swap_used_ratio",), "swap is being used up", for_s=20,
              clear_s=120, grace_s=25),
    AlertKind("NumaRemoteMemory", "warning", ("numa_other_node_per_second",),
              "much memory comes from another NUMA node", for_s=20, clear_s=60),
)
