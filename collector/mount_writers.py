"""Who has files open for writing on the file systems that alerts speak of, asked when a report is made.

Reads:  /proc/self/mountinfo; the open files of all processes, through the warden
Source: proc_pid_fdinfo(5), proc_pid_mountinfo(5)
"""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from collector.cgroup_files import shown, slurp
from collector.mounts import parse_mountinfo
from etio.core.errors import Broken, NoData

MOUNTS = 4
"""Most file systems that are asked for."""
GONE = "not mounted"
Row = tuple[int, int, int, str]
Ask = Callable[[int], Sequence[Row] | None]
"""(pid, bytes, 1 = deleted, path) of the files open for writing on the file system of this number; None = not known."""


def mount_writers(root: Path, points: Iterable[str], ask: Ask) -> tuple[tuple[str, str], ...]:
    """For Facts.extra: ("writers mount=/x", a line "pid bytes deleted path" for each file); GONE where nothing is
    mounted there any more. Never raises OSError."""
    wanted = list(dict.fromkeys(points))[:MOUNTS]
    try:
        mounts = parse_mountinfo(slurp(str(root / "proc/self/mountinfo"), 1 << 20) or b"") if wanted else []
    except (NoData, Broken):
        return ()
    numbers = {mount.labels[1]: mount for mount in mounts}
    found = []
    for point in wanted:
        mount = numbers.get(point)
        if mount is None:
            found.append((f"writers mount={point}", GONE))
        elif not mount.may_hang and (rows := ask(_number(mount.device_number))) is not None:
            lines = (f"{pid} {size} {deleted} {shown(path)}" for pid, size, deleted, path in rows)
            found.append((f"writers mount={point}", "\n".join(lines)))
    return tuple(found)


def _number(device: bytes) -> int:
    major, _, minor = device.partition(b":")
    return os.makedev(int(major), int(minor)) if major.isdigit() and minor.isdigit() else 0
