"""A queue in a tmpfs that nobody empties: its files count against the limit of a group, and no process holds them."""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._tools import cgroup, named_python, running, scratch, sh

FILL = """
import time
with open('{path}/queue', 'wb', buffering=0) as file:
    while file.tell() < 500 << 20:
        file.write(bytes(1 << 20))
        time.sleep(0.06)
time.sleep(1000)
"""
HOLD = "import time; held = bytearray(b'x') * (50 << 20); time.sleep(1000)"


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """A group of 200 MiB: one that holds 50, and one that writes to a tmpfs of 600."""
    with scratch() as folder:
        queue = folder / "queue"
        queue.mkdir()
        sh("mount", "-t", "tmpfs", "-o", "size=600m", "tmpfs", str(queue))
        try:
            limit = str(200 << 20)
            both = [named_python(folder, "cache", HOLD), named_python(folder, "spooler", FILL.format(path=queue))]
            with cgroup("ingest", "memory", {"memory.limit_in_bytes": limit}, {"memory.max": limit}) as group, \
                    running(*both, cgroups=[group]):
                yield
        finally:
            sh("umount", "-l", str(queue))


DRILL = Drill("tmpfs_group", "oom_kill", ("ingest",), inject, seconds=40, needs=("mount",))
