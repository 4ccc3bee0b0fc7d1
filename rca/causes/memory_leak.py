"""One process grows and grows."""

from rca.forecast import foreseen
from rca.leak import grower, growing_process, growing_total
from rca.spec import CauseSpec, Check, Shown, Table

CAUSE = CauseSpec(
    id="memory_leak",
    title="memory leak",
    mechanism="One process takes more and more memory at a steady pace until the host or its group runs out.",
    source="own rule: resident size of one family of processes rises in nearly every step over at least a minute",
    alerts=("MemoryLeak", "MemoryExhaustsSoon", "SwapExhaustsSoon", "MemoryLow", "MemoryPressure",
            "CgroupMemoryPressure", "OomKill"),
    tables=(Table(
        needs=((Shown(growing_process),),),
        supports=(Shown(growing_total), foreseen("", "MemoryExhaustsSoon", "SwapExhaustsSoon")),
        refutes=(Check("memory_available_ratio", ">=", 0.97, why="nearly all memory is free"),),
    ),),
    headlines=("{who} keeps growing and gives no memory back",),
    summary=(
        "{claim} {blame:ref}.",
        "The memory of the host moves with it {growing_total:ref}.",
        "{forecast:said} {forecast:ref}.",
        "At this pace the rest of the memory lasts for {growing_process}.",
        "Only {memory_available_ratio} of the memory is still available {memory_available_ratio:ref}.",
    ),
    tell_apart="the resident size of each process over several minutes: a leak rises in every step, a cache levels off",
    explains=("memory_pressure", "swap_thrashing", "oom_kill", "disk_saturation", "exhaustion_ahead"),
    specific=2,
    blame=grower,
)
