"""Which file a loop device keeps its data in: where that file system is full or fails, so does the device.

Reads:  /sys/block/loop*/loop/backing_file, only when a report is made
Source: Documentation/ABI/testing/sysfs-block-loop
"""

from pathlib import Path

from collector.cgroup_files import slurp

MOST = 64
"""Devices that are told: a host with many images has hundreds."""


def backing_files(root: Path) -> tuple[tuple[str, str], ...]:
    """For Facts.extra: ("loop device=loop0", path of its file) of each device in use. Never raises OSError."""
    try:
        names = sorted(p.name for p in (root / "sys/block").iterdir() if p.name.startswith("loop"))
    except OSError:
        return ()
    read = ((name, slurp(str(root / "sys/block" / name / "loop/backing_file"), 4096)) for name in names)
    found = [(f"loop device={name}", raw.decode("utf-8", "replace").rstrip("\n")) for name, raw in read if raw]
    return tuple(pair for pair in found if pair[1])[:MOST]
