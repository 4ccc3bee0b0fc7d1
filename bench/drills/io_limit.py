"""A report generator whose group may write one megabyte a second."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from bench.drills import Drill
from bench.drills._tools import cgroup, running, scratch


def device_of(folder: Path) -> str:
    """Number of the disk that a folder is on, such as "253:0"; of the whole disk where it is on a partition."""
    number = folder.stat().st_dev
    name = f"{number >> 8 & 0xFFF}:{number & 0xFF}"
    whole = Path(f"/sys/dev/block/{name}/../dev")
    return whole.read_text().strip() if Path(f"/sys/dev/block/{name}/partition").exists() else name


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """Direct writes against blkio.throttle, or io.max."""
    with scratch() as folder:
        disk = device_of(folder)
        v1 = {"blkio.throttle.write_bps_device": f"{disk} 1048576"}
        write = ["dd", "if=/dev/zero", f"of={folder}/report", "bs=256k", "oflag=direct", "count=2000"]
        with cgroup("reports", "blkio", v1, {"io.max": f"{disk} wbps=1048576"}) as group, \
                running(write, cgroups=[group]):
            try:
                yield
            finally:  # before the writer is ended: what it has asked for already would keep it for seconds
                for file, none in (("blkio.throttle.write_bps_device", "0"), ("io.max", "wbps=max")):
                    if (group / file).exists():
                        (group / file).write_text(f"{disk} {none}")


DRILL = Drill("io_limit", "cgroup_io_throttling", ("reports",), inject, needs=("dd",))
