"""Control: a log that is written and rotated, again and again, on a small file system."""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._tools import running, scratch, small_ext4


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """192 MiB ext4 on a loop device; 1.5 MB a second, the file begun anew at each 24 MB."""
    with scratch() as folder, small_ext4(folder, "rotated", 192) as mount, running([
            "sh", "-c", "while :; do for i in $(seq 32); do sleep 0.5; "
                        f"head -c 750000 /dev/zero >>{mount}/app.log; done; : >{mount}/app.log; done"]):
        yield


DRILL = Drill("control_rotate", "", (), inject, seconds=90.0, needs=("mkfs.ext4",))
