"""Pages go to swap and come back at once."""

from rca.memory_culprits import memory_holder
from rca.spec import CauseSpec, Check, Table

CAUSE = CauseSpec(
    id="swap_thrashing",
    title="swap thrashing",
    mechanism="Pages that are still in use are written to swap and read back at once; tasks wait for the disk.",
    source="Netflix 60-second checklist (si, so); kernel docs admin-guide/sysctl/vm (swappiness)",
    alerts=("SwapThrashing", "MemoryPressure", "DiskSaturated"),
    tables=(Table(
        # Both ways at once: pages that only go out were not needed, which is what swap is for.
        needs=((Check("vm_swap_in_pages_per_second", ">=", 200.0, factor=3.0),),
               (Check("vm_swap_out_pages_per_second", ">=", 200.0, factor=3.0),)),
        supports=(
            Check("vm_major_faults_per_second", ">=", 50.0, factor=3.0),
            Check("pressure_memory_some_ratio", ">=", 0.05, factor=2.0),
            Check("pressure_memory_full_ratio", ">=", 0.05, factor=2.0),
            Check("memory_swap_used_ratio", ">=", 0.10),
        ),
    ),),
    headlines=("The host swaps in and out without end; {who} holds the most memory",
               "The host swaps in and out without end"),
    summary=(
        "Pages go to swap at {vm_swap_out_pages_per_second} {vm_swap_out_pages_per_second:ref} and come back at "
        "{vm_swap_in_pages_per_second} {vm_swap_in_pages_per_second:ref}.",
        "{claim} {blame:ref}.",
        "Some task waited for memory {pressure_memory_some_ratio} of the time {pressure_memory_some_ratio:ref}.",
    ),
    tell_apart="pswpin and pswpout of /proc/vmstat: both high at once is thrashing, pswpout alone is not",
    explains=("disk_saturation", "io_stall"),
    specific=2,
    blame=memory_holder,
    culprit_needed=False,
)
