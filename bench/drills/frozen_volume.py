"""A backup has frozen a file system for its snapshot, and died before it thawed it."""

import contextlib
import time
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._tools import named_python, running, scratch, sh

WRITE = """
import time
while True:
    open('{path}/day', 'w').write('x' * 5000)
    time.sleep(0.05)
"""


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """fsfreeze on a file system of its own, in which a program writes a line now and then."""
    with scratch() as folder:
        image, volume = folder / "image", folder / "volume"
        volume.mkdir()
        with image.open("wb") as out:
            out.truncate(128 << 20)
        sh("mkfs.ext4", "-q", "-F", str(image))
        sh("mount", "-o", "loop", str(image), str(volume))
        try:
            with running(named_python(folder, "bookkeeper", WRITE.format(path=volume))):
                time.sleep(1.0)
                sh("fsfreeze", "--freeze", str(volume))
                try:
                    yield
                finally:
                    sh("fsfreeze", "--unfreeze", str(volume))
        finally:
            sh("umount", "-l", str(volume))


DRILL = Drill("frozen_volume", "io_stall", ("frozen",), inject, seconds=30, needs=("mkfs.ext4", "fsfreeze"))
