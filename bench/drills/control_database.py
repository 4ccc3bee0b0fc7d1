"""Control: a database at a steady load, with a backup of the lowest priority beside it."""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._tools import running, scratch


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """Reads and writes of 8 KiB, flushed now and then; tar and gzip with ionice and nice."""
    with scratch() as folder:
        database = ["fio", "--name=db", f"--directory={folder}", "--rw=randrw", "--rwmixread=70", "--bs=8k",
                    "--size=128m", "--fsync=32", "--rate_iops=200", "--time_based", "--runtime=120", "--ioengine=sync"]
        backup = ["ionice", "-c", "3", "nice", "-n", "19", "sh", "-c",
                  f"while :; do tar cf - /usr/lib/python3 | gzip -1 >{folder}/backup.tar.gz; done"]
        with running(database, backup):
            yield


DRILL = Drill("control_database", "", (), inject, seconds=45, needs=("fio", "ionice"))
