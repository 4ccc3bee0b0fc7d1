"""A file system that a log fills at a constant pace: told before it is full."""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._tools import running, scratch, small_ext4

SIZE_MB, PACE_KB = 192, 1500
"""Full after about two minutes."""


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """192 MiB ext4 on a loop device, filled by 1.5 MB a second."""
    with scratch() as folder, small_ext4(folder, "journal", SIZE_MB) as mount, running([
            "sh", "-c", f"while sleep 0.5; do head -c {PACE_KB * 500} /dev/zero >>{mount}/app.log || sleep 5; done"]):
        yield


DRILL = Drill("disk_filling", "disk_filling", ("journal",), inject, seconds=110.0, needs=("mkfs.ext4",))
