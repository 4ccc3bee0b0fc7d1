"""A file system that a log fills at a constant pace: told before it is full."""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._tools import running, scratch, sh

SIZE_MB, PACE_KB = 192, 1500
"""Full after about two minutes."""


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """192 MiB ext4 on a loop device, filled by 1.5 MB a second."""
    with scratch() as folder:
        image, mount = folder / "image", folder / "journal"
        mount.mkdir()
        with image.open("wb") as out:
            out.truncate(SIZE_MB << 20)
        sh("mkfs.ext4", "-q", "-F", str(image))
        sh("mount", "-o", "loop", str(image), str(mount))
        try:
            with running(["sh", "-c", f"while sleep 0.5; do head -c {PACE_KB * 500} /dev/zero >>{mount}/app.log "
                                      "|| sleep 5; done"]):
                yield
        finally:
            sh("umount", "-l", str(mount))


DRILL = Drill("disk_filling", "disk_filling", ("journal",), inject, seconds=110.0, needs=("mkfs.ext4",))
