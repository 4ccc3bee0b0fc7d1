"""Far more runnable threads than cores."""

from contextlib import AbstractContextManager

from bench.drills import Drill
from bench.drills._tools import cores, running


def inject() -> AbstractContextManager[None]:
    """32 CPU-bound workers per core."""
    return running(["stress-ng", "--cpu", str(32 * cores()), "--timeout", "60"])


DRILL = Drill("many_threads", "runqueue_contention", ("stress-ng",), inject, needs=("stress-ng",))
