"""A group whose OOM killer is off gets no more memory: nobody is killed, and whoever asks sleeps (cgroup v1)."""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._tools import cgroup, has_v1, named_python, running, scratch

FILL = """
import time
held = []
while True:
    held.append(b"x" * (1 << 20))
    time.sleep(0.02)
"""


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """64 MiB; switched on again on leaving, or its process could not be ended."""
    if not has_v1("memory"):
        raise RuntimeError("the OOM killer of a group can only be switched off on cgroup v1")
    limits = {"memory.limit_in_bytes": str(64 << 20), "memory.oom_control": "1"}
    with scratch() as folder, cgroup("thumbnails", "memory", limits, {}) as group:
        try:
            with running(named_python(folder, "thumbnailer", FILL), cgroups=[group]):
                yield
        finally:
            (group / "memory.oom_control").write_text("0")


DRILL = Drill("oom_killer_off", "group_oom_off", ("thumbnail",), inject)
