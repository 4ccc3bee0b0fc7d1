"""A group whose working set does not fit its memory limit: it reads the same file from disk again and again."""

import contextlib
import os
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._tools import cgroup, named_python, running, scratch

MIB = 1 << 20
CODE = """
import os, sys
held = bytearray(60 << 20)
for i in range(0, len(held), 4096): held[i] = 1
fds = [os.open(sys.argv[1], os.O_RDONLY) for _ in range(3)]
import threading
def read(fd, step):
    at = 0
    while True:
        n = len(os.pread(fd, 1 << 20, at))
        at = 0 if n < 1 << 20 else at + step
threads = [threading.Thread(target=read, args=(fd, (i + 1) << 20)) for i, fd in enumerate(fds)]
[t.start() for t in threads]
"""


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """96 MiB limit, 60 MiB of anonymous memory and a 256 MiB file."""
    limit = str(96 * MIB)
    with scratch() as folder:
        file = folder / "table.dat"
        with file.open("wb") as out:
            for _ in range(256):
                out.write(b"x" * MIB)
            out.flush()
            os.fsync(out.fileno())
            # Out of the page cache, so that its pages are charged to the group that reads them.
            os.posix_fadvise(out.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        command = [*named_python(folder, "reportd", CODE), str(file)]
        with cgroup("reports", "memory", {"memory.limit_in_bytes": limit}, {"memory.max": limit}) as group, \
                running(command, cgroups=[group]):
            yield


DRILL = Drill("memory_pressure", "memory_pressure", ("reports", "reportd"), inject)
