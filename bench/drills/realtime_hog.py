"""A sound engine of the real-time class that hardly sleeps, on every core."""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._tools import cores, named_python, running, scratch

MIX = """
import time
while True:
    until = time.monotonic() + 0.08
    while time.monotonic() < until:
        pass
    time.sleep(0.01)
"""


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """SCHED_FIFO for eight ninths of the time; what is left is for all others, etio among them."""
    with scratch() as folder:
        command = ["chrt", "-f", "50", *named_python(folder, "rtaudio", MIX)]
        with running(*[command] * cores()):
            yield


DRILL = Drill("realtime_hog", "cpu_saturation", ("rtaudio",), inject, seconds=40, needs=("chrt",))
