"""Memory is short, on the host or inside a control group, and tasks wait while it is reclaimed."""

from rca.memory_culprits import READS, kept_by_nobody, memory_holder
from rca.spec import CauseSpec, Check, Shown, Table

STALLS = (
    Check("pressure_memory_some_ratio", ">=", 0.05, factor=2.0),
    Check("vm_alloc_stalls_per_second", ">=", 10.0, factor=2.0),
    Check("reclaim_direct_seconds_per_second", ">=", 0.02, factor=2.0),
    Check("vm_direct_scan_pages_per_second", ">=", 2000.0, factor=2.0),
)
GROUP_STALLS = (
    Check("cgroup_memory_pressure_some_ratio", ">=", 0.05, factor=2.0),
    Check("pressure_memory_some_ratio", ">=", 0.05, factor=2.0),
    Check("reclaim_memcg_seconds_per_second", ">=", 0.02, factor=2.0),
    Check("reclaim_memcg_stalls_per_second", ">=", 20.0, factor=2.0),
    Check("cgroup_memory_refaults_per_second", ">=", 200.0, factor=3.0),
    # Without PSI and eBPF only this is left: pages dropped and soon read again. A copy of files drops pages as well,
    # but does not want them back.
    Check("vm_workingset_refaults_per_second", ">=", 200.0, factor=3.0),
    Check("vm_major_faults_per_second", ">=", 50.0, factor=3.0),
)
EFFECTS = (
    Check("vm_workingset_refaults_per_second", ">=", 200.0, factor=3.0),
    Check("vm_major_faults_per_second", ">=", 50.0, factor=3.0),
    Check("vm_swap_out_pages_per_second", ">=", 100.0, factor=3.0),
)
WAITED = (
    "Some task waited for memory {pressure_memory_some_ratio} of the time {pressure_memory_some_ratio:ref}.",
    "Tasks spent {reclaim_memcg_seconds_per_second} reclaiming for the limit {reclaim_memcg_seconds_per_second:ref}.",
)
BACK = (
    "Pages come back to it soon after they were dropped: {cgroup_memory_refaults_per_second} "
    "{cgroup_memory_refaults_per_second:ref}. What it works with does not fit its limit.",
)
TOLD = (
    *WAITED,
    "Pages come back soon after they were dropped: {vm_workingset_refaults_per_second} "
    "{vm_workingset_refaults_per_second:ref}. The working set does not fit.",
)

CAUSE = CauseSpec(
    id="memory_pressure",
    title="memory pressure",
    mechanism="Memory of the host or of a group is short; tasks stop to reclaim pages and soon read them again.",
    source="kernel docs accounting/psi, admin-guide/cgroup-v2 (memory.events), admin-guide/cgroup-v1/memory (failcnt)",
    alerts=("MemoryPressure", "MemoryLow", "CgroupMemoryPressure"),
    tables=(
        Table(
            # At 4 % the reserve itself is used up: shortage whether or not anybody was seen waiting.
            needs=((Check("memory_available_ratio", "<=", 0.12, stat="low"),),
                   (*STALLS, Check("memory_available_ratio", "<=", 0.04, stat="low"))),
            supports=(*STALLS, *EFFECTS, Check("memory_shmem_bytes", ">=", 2.0**30, factor=2.0),
                      Check("memory_slab_bytes", ">=", 2.0**30, factor=2.0),
                      Check("memory_huge_page_bytes", ">=", 2.0**30), Shown(kept_by_nobody, reads=READS)),
        ),
        Table(
            label="cgroup",
            needs=((Check("cgroup_memory_used_ratio", ">=", 0.95),
                    Check("cgroup_memory_failures_per_second", ">=", 1.0)), GROUP_STALLS),
            supports=(*GROUP_STALLS, *EFFECTS, Check("memory_available_ratio", ">=", 0.2)),
            headlines=("{who} presses against the memory limit of {entity}",
                       "{entity} is at its memory limit and keeps reclaiming"),
            summary=(
                "{entity} uses {cgroup_memory_used_ratio} of its memory limit {cgroup_memory_used_ratio:ref}.",
                "{entity} runs into its memory limit {cgroup_memory_failures_per_second:times} "
                "{cgroup_memory_failures_per_second:ref}.",
                "{claim} {blame:ref}.", *WAITED, *BACK,
                "The host as a whole still has {memory_available_ratio} of its memory to give "
                "{memory_available_ratio:ref}: it is the limit of the group that is too tight.",
            ),
        ),
    ),
    headlines=("The host is short of memory: {who} holds the most", "The host is short of memory"),
    summary=(
        "Only {memory_available_ratio} of the memory is still available {memory_available_ratio:ref}.",
        "{claim} {blame:ref}.", *TOLD,
    ),
    tell_apart="memory PSI, and used memory against the limit of each group, show whether tasks wait for memory",
    explains=("swap_thrashing", "disk_saturation", "cpu_saturation", "runqueue_contention", "io_stall"),
    specific=2,
    blame=memory_holder,
    culprit_needed=False,
)
