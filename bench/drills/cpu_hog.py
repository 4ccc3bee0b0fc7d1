"""As many CPU-bound workers as there are cores."""

from contextlib import AbstractContextManager

from bench.drills import Drill
from bench.drills._tools import cores, running


def inject() -> AbstractContextManager[None]:
    """stress-ng --cpu, one worker per core."""
    return running(["stress-ng", "--cpu", str(cores()), "--timeout", "60"])


DRILL = Drill("cpu_hog", "cpu_saturation", ("stress-ng",), inject, needs=("stress-ng",))
