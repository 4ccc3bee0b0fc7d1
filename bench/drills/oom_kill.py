"""A process that grows beyond the memory limit of its group and is killed."""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._tools import cgroup, named_python, running, scratch

CODE = """
import time
held = []
for _ in range(200):
    held.append(bytearray(b'x' * (4 << 20)))
    time.sleep(0.02)
time.sleep(60)
"""


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """128 MiB limit, 800 MiB wanted; no swap to escape to."""
    limit = str(128 << 20)
    with scratch() as folder, \
            cgroup("search", "memory", {"memory.limit_in_bytes": limit}, {"memory.max": limit,
                                                                            "memory.swap.max": "0"}) as group, \
            running(named_python(folder, "indexer", CODE), cgroups=[group]):
        yield


DRILL = Drill("oom_kill", "oom_kill", ("indexer", "search"), inject)
