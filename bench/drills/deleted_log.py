"""A log that was deleted under its writer fills a file system, while a backup writes far more to another one."""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._tools import named_python, running, scratch, small_ext4

LOG = """
import os, sys, time
log = open(sys.argv[1], "wb")
os.unlink(sys.argv[1])
while True:
    try:
        log.write(b"x" * (1 << 20))
        log.flush()
    except OSError:
        pass
    time.sleep(0.02)
"""
BACKUP = """
import os, sys, time
while True:
    with open(sys.argv[1], "wb") as out:
        out.write(os.urandom(1 << 20) * 20)
        os.fsync(out.fileno())
    time.sleep(0.1)
"""


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """150 MiB ext4 on a loop device, full within some seconds."""
    with scratch() as folder, small_ext4(folder, "eventlog", 150) as mount, running(
            [*named_python(folder, "applogd", LOG), str(mount / "app.log")],
            [*named_python(folder, "backupd", BACKUP), str(folder / "copy")]):
        yield


DRILL = Drill("deleted_log", "disk_full", ("eventlog",), inject, seconds=40, needs=("mkfs.ext4",))
