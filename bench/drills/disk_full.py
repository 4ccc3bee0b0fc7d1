"""A file system that a log file fills to the last block."""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._tools import running, scratch, small_ext4


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """64 MiB ext4 on a loop device, filled within about two seconds."""
    with scratch() as folder, small_ext4(folder, "spool", 64) as mount, running([
            "sh", "-c", f"while :; do echo 0123456789 >>{mount}/access.log; "
                        f"head -c 1000000 /dev/zero >>{mount}/access.log || sleep 1; done"]):
        yield


DRILL = Drill("disk_full", "disk_full", ("spool",), inject, needs=("mkfs.ext4",))
