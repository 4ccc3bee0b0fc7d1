"""A sound engine of the real-time class that never sleeps, on every core."""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._tools import cores, named_python, running, scratch


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """SCHED_FIFO; the kernel leaves a twentieth of each second to all others, etio among them."""
    with scratch() as folder:
        command = ["chrt", "-f", "50", *named_python(folder, "rtaudio", "while True: pass")]
        with running(*[command] * cores()):
            yield


DRILL = Drill("realtime_hog", "cpu_saturation", ("rtaudio",), inject, seconds=40, needs=("chrt",))
