"""The kernel killed a process because memory ran out."""

from rca.oom import limit_met, oom_user
from rca.spec import CauseSpec, Check, Happened, Shown, Table

CAUSE = CauseSpec(
    id="oom_kill",
    title="OOM kill",
    mechanism="Memory (of the host or of a group with a limit) could not be freed, so the kernel killed a process.",
    source="kernel docs admin-guide/mm/concepts (OOM killer), admin-guide/cgroup-v2 (memory.events: oom_kill)",
    alerts=("OomKill",),
    tables=(
        Table(
            label="cgroup",
            # v1 counts a kill where the process was, and the limit it met may be that of a group above.
            needs=((Check("cgroup_oom_kills_per_second", ">=", 1e-6, stat="peak"), Shown(limit_met)),),
            supports=(Happened(("oom_kill",)), Check("vm_oom_kills_per_second", ">=", 1e-6, stat="peak"),
                      Check("cgroup_memory_used_ratio", ">=", 0.90, stat="peak"),
                      Check("pressure_memory_some_ratio", ">=", 0.05, stat="peak")),
        ),
        Table(
            needs=((Happened(("oom_kill",)), Check("vm_oom_kills_per_second", ">=", 1e-6, stat="peak")),),
            supports=(Check("vm_oom_kills_per_second", ">=", 1e-6, stat="peak"),
                      Check("memory_available_ratio", "<=", 0.10, stat="low"),
                      Check("pressure_memory_some_ratio", ">=", 0.05, stat="peak")),
        ),
    ),
    headlines=("{who} ran {entity} out of memory; the kernel killed a process",
               "{who} ran out of memory; the kernel killed a process",
               "The kernel killed a process for lack of memory"),
    summary=(
        "{claim} {blame:ref}.",
        "The kernel killed {unnamed} for lack of memory {oom_kill:ref}.",
        "The group {entity} had used {cgroup_memory_used_ratio} of its limit {cgroup_memory_used_ratio:ref}.",
        "Of the host's memory {memory_available_ratio} was left {memory_available_ratio:ref}.",
    ),
    tell_apart="the kernel log or the eBPF probe on oom:mark_victim names the victim and the group",
    explains=("memory_pressure", "swap_thrashing", "cpu_saturation", "disk_saturation", "server_down", "unit_failed"),
    hard=True,
    specific=3,
    blame=oom_user,
    culprit_needed=False,
)
