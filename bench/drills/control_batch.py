"""Control: batch work of the lowest priority that takes every core that nobody else wants."""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._tools import cores, named_python, running, scratch


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """nice 19, two tasks for each core."""
    with scratch() as folder:
        running_each = [["nice", "-n", "19", *named_python(folder, "folding", "while True: pass")]] * (2 * cores())
        with running(*running_each):
            yield


DRILL = Drill("control_batch", "", (), inject, seconds=40, needs=("nice",))
