"""Something other than a disk is being used up, and the moment of its end can be told."""

from rca.forecast import foreseen
from rca.spec import CauseSpec, Table

HOST = ("MemoryExhaustsSoon", "SwapExhaustsSoon", "FileHandlesRunOutSoon", "PidsRunOutSoon", "ConntrackFillsSoon")

CAUSE = CauseSpec(
    id="exhaustion_ahead",
    title="resource that is being used up",
    mechanism="Memory, swap, handles, tasks or connections are taken faster than they are given back, until none is "
              "left.",
    source="Sen (1968), JASA 63(324) for the slope and its interval",
    alerts=(*HOST, "GpuMemoryExhaustsSoon"),
    tables=(
        Table(needs=((foreseen("", *HOST),),)),
        Table(label="gpu", needs=((foreseen("gpu", "GpuMemoryExhaustsSoon"),),),
              headlines=("The memory of GPU {entity} is being used up: {forecast:told}",)),
    ),
    headlines=("A resource is being used up: {forecast:told}",),
    summary=("{forecast:said} {forecast:ref}.",),
    tell_apart="the same figure again some minutes later, and which process grows meanwhile",
    specific=0,
    culprit_needed=False,
)
