"""Hard rules of memory: of the host, of groups with a limit, of swap."""

from typing import TYPE_CHECKING

from detectors.rule import Condition, Rule

if TYPE_CHECKING:
    from detectors.rules import Config

PSI = "Documentation/accounting/psi.rst"
PROC = "Documentation/filesystems/proc.rst"
CGROUP_V2 = "Documentation/admin-guide/cgroup-v2.rst"


def memory_rules(c: "Config") -> tuple[Rule, ...]:
    """The rules with these thresholds."""
    return (
        Rule("MemoryPressure", (Condition("pressure_memory_some_ratio", ">=", c.memory_pressure_ratio),),
             "tasks wait for memory", PSI),
        Rule("MemoryLow", (Condition("memory_available_ratio", "<=", c.memory_low_available_ratio),),
             "little is left before the OOM killer", PROC),
        Rule("CgroupMemoryPressure",
             (Condition("cgroup_memory_failures_per_second", ">=", c.cgroup_memory_failures_per_second),
              Condition("cgroup_memory_used_ratio", ">=", c.cgroup_memory_used_ratio),
              _refaults(c.cgroup_memory_refaults_per_second)),
             "the group reclaims at its own limit what it needs again at once", CGROUP_V2),
        # A page cache that does not fit counts as reclaimable, not as used: what is read again and again gives it away.
        Rule("CgroupMemoryPressure",
             (Condition("cgroup_memory_failures_per_second", ">=", c.cgroup_memory_failures_per_second),
              _refaults(c.cgroup_cache_refaults_per_second)),
             "the group reads the same files again and again because its limit leaves them no room", CGROUP_V2),
        # A slow disk cannot read that many: there it is the wait that counts.
        Rule("CgroupMemoryPressure",
             (Condition("cgroup_memory_failures_per_second", ">=", c.cgroup_cache_failures_per_second),
              Condition("cgroup_memory_refaults_per_second", ">=", c.cgroup_cache_slow_refaults_per_second),
              Condition("pressure_io_some_ratio", ">=", c.cgroup_cache_io_pressure_ratio)),
             "the group waits for files to be read again, because its limit leaves them no room", CGROUP_V2),
        Rule("CgroupOutOfMemory", (Condition("cgroup_memory_oom_waiting", ">=", c.cgroup_memory_oom_waiting),),
             "the group has all it may, its OOM killer is off, and whoever wants more sleeps until somebody frees it",
             "Documentation/admin-guide/cgroup-v1/memory.rst, 10"),
        Rule("SwapThrashing",
             (Condition("vm_swap_in_pages_per_second", ">=", c.swap_pages_per_second),
              Condition("vm_swap_out_pages_per_second", ">=", c.swap_pages_per_second)),
             "pages are swapped out and in again at once", PROC),
    )


def _refaults(least: float) -> Condition:
    """Pages that the group wants back; where its memory.stat does not tell, those of the host."""
    return Condition("cgroup_memory_refaults_per_second", ">=", least,
                     instead=Condition("vm_workingset_refaults_per_second", ">=", least))
