"""Writers are put to sleep because too many of their pages wait to go to disk."""

from rca.kernel_actors import writer_held_back
from rca.spec import CauseSpec, Check, Table

CAUSE = CauseSpec(
    id="dirty_throttling",
    title="writers held back",
    mechanism="Processes write to the page cache faster than it is written out, so the kernel puts writers to sleep.",
    source="kernel docs admin-guide/sysctl/vm (dirty_ratio, dirty_bytes); mm/page-writeback.c, balance_dirty_pages",
    alerts=("WritersHeldBack", "IoStalled", "TasksStuck"),
    tables=(Table(
        needs=((Check("dirty_throttle_seconds_per_second", ">=", 0.3, factor=3.0),),),
        supports=(
            Check("dirty_throttle_pauses_per_second", ">=", 3.0, factor=3.0),
            Check("pressure_io_some_ratio", ">=", 0.20, factor=2.0),
            Check("memory_dirty_bytes", ">=", 8 * 2.0**20, factor=1.5),
            Check("memory_writeback_bytes", ">=", 8 * 2.0**20, factor=1.5),
            Check("cgroup_dirty_throttle_seconds_per_second", ">=", 0.2, factor=3.0),
            Check("cpu_blocked_tasks", ">=", 1.0, factor=2.0),
        ),
    ),),
    headlines=("{who} writes faster than its pages go to disk: writers are held back",
               "Writers are held back until their pages are on disk"),
    summary=(
        "All writers together slept {dirty_throttle_seconds_per_second} until their pages were on disk "
        "{dirty_throttle_seconds_per_second:seen}.",
        "They were stopped {dirty_throttle_pauses_per_second:times} {dirty_throttle_pauses_per_second:ref}.",
        "{claim} {blame:ref}.",
        "{memory_dirty_bytes} wait to be written {memory_dirty_bytes:ref}.",
        "Some task waited for I/O {pressure_io_some_ratio} of the time {pressure_io_some_ratio:ref}.",
        "The limits are vm.dirty_ratio or vm.dirty_bytes; every writer shares them, also one that writes little.",
    ),
    tell_apart="pauses of balance_dirty_pages (eBPF), and whether the disk behind is busy (/proc/diskstats)",
    specific=2,
    blame=writer_held_back,
)
