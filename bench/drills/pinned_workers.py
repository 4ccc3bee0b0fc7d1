"""Four workers that may only run on one core, while the others idle."""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._tools import cores, named_python, running, scratch


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """taskset to the last core."""
    with scratch() as folder:
        command = ["taskset", "-c", str(cores() - 1), *named_python(folder, "encoder", "while True: pass")]
        with running(*[command] * 4):
            yield


DRILL = Drill("pinned_workers", "cpu_affinity", ("encoder",), inject, needs=("taskset",))
