"""A backup has frozen a file system for its snapshot, and died before it thawed it."""

import contextlib
import time
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._tools import named_python, running, scratch, sh, small_ext4

WRITE = """
import time
while True:
    open('{path}/day', 'w').write('x' * 5000)
    time.sleep(0.05)
"""


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """fsfreeze on a file system of its own, in which a program writes a line now and then."""
    with scratch() as folder, small_ext4(folder, "volume", 128) as volume, running(
            named_python(folder, "bookkeeper", WRITE.format(path=volume))):
        time.sleep(6.0)  # what a program was started with is not read any more once it hangs
        sh("fsfreeze", "--freeze", str(volume))
        try:
            yield
        finally:
            sh("fsfreeze", "--unfreeze", str(volume))


DRILL = Drill("frozen_volume", "io_stall", ("frozen", "volume"), inject, seconds=30, needs=("mkfs.ext4", "fsfreeze"))
