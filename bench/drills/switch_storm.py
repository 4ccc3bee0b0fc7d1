"""Threads that hand each other a byte through a pipe, and do nothing else."""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._tools import cores, running


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """Two pairs for each core."""
    with running(["stress-ng", "--switch", str(2 * cores()), "--timeout", "30"]):
        yield


DRILL = Drill("switch_storm", "context_switch_storm", ("stress-ng",), inject, needs=("stress-ng",))
