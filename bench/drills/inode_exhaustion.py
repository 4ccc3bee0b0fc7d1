"""A spool with a file for each message, on a file system with few inodes."""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._tools import named_python, running, scratch, sh


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """A tmpfs with 2,000 inodes and plenty of space."""
    with scratch() as folder:
        spool = folder / "spool"
        spool.mkdir()
        sh("mount", "-t", "tmpfs", "-o", "nr_inodes=2000,size=64m", "tmpfs", str(spool))
        code = f"""
import time
for i in range(100000):
    try:
        open('{spool}/%d' % i, 'w').close()
    except OSError:
        time.sleep(0.1)
"""
        try:
            with running(named_python(folder, "mailspool", code)):
                yield
        finally:
            sh("umount", "-l", str(spool))


DRILL = Drill("inode_exhaustion", "disk_full", ("spool",), inject, needs=("mount",))
