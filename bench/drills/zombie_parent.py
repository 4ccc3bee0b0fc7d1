"""A supervisor that never waits for its children."""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._tools import named_python, running, scratch

CODE = """
import os, time
for _ in range(200):
    if os.fork() == 0:
        os._exit(0)
    time.sleep(0.02)
time.sleep(100)
"""


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """Two hundred zombies in four seconds."""
    with scratch() as folder, running(named_python(folder, "jobrunner", CODE)):
        yield


DRILL = Drill("zombie_parent", "zombies", ("jobrunner",), inject)
