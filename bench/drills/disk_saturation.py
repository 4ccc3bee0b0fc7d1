"""Random direct I/O with a deep queue: the device does nothing else."""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._tools import running, scratch


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """fio, direct, 4 jobs x 32 deep, 60 % reads."""
    with scratch() as folder, running(
            ["fio", "--name=load", "--filename=" + str(folder / "data"), "--size=512M", "--direct=1", "--rw=randrw",
             "--rwmixread=60", "--bs=64k", "--ioengine=libaio", "--iodepth=32", "--numjobs=4", "--time_based",
             "--runtime=90", "--group_reporting"]):
        yield


DRILL = Drill("disk_saturation", "disk_saturation", ("fio",), inject, needs=("fio",))
