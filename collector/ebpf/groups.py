"""Names of control groups by the ids that programs see, and series of the groups that grow most."""

import contextlib
import math
import os
import time
from pathlib import Path

from collector.cgroup_files import find_mounts, shown, slurp
from collector.ebpf.families import HEAVY_SLOTS
from collector.ebpf.heavy import HeavyTable
from etio.core.errors import Broken, NoData
from etio.core.series import Series, labels

MOST = 32
"""Groups with series of their own in each family: they stay for good, so the first that matter get them."""
MATTERS_S = 0.01
"""Seconds in one tick from which on a group gets a series."""
LOOK_S = 60.0
MOST_LOOKED = 5000


class GroupNames:
    """Paths of control groups below their hierarchy's root.

    An id is the inode of the group's directory. A process seen in the group tells the path, the inode proves it.
    """

    def __init__(self, root: Path, hierarchy: str, controller: str) -> None:
        """hierarchy: "v1" or "v2", as the loader told; controller: whose v1 hierarchy the ids belong to."""
        self._proc = root / "proc"
        self._controller = "" if hierarchy == "v2" else controller
        try:
            mounts = find_mounts(root)
            self._top = mounts.v2 if hierarchy == "v2" else mounts.v1.get(controller, "")
        except (NoData, Broken):
            self._top = ""
        self._known: dict[int, str] = {}
        self._looked_s = -math.inf

    def path(self, number: int, pid: int) -> str:
        """Path of group `number`, of which `pid` was a process; "" while it cannot be told."""
        if number not in self._known and self._top:
            own = parse_path(slurp(str(self._proc / str(pid) / "cgroup")) or b"", self._controller)
            try:
                if own and os.stat(self._top + os.fsdecode(own)).st_ino == number:
                    self._known[number] = shown(os.fsdecode(own))
            except (OSError, ValueError):
                return ""
        return self._known.get(number, "")

    def look(self, number: int, now_s: float) -> str:
        """Path of a group all of whose processes are gone already; looks through the hierarchy once a minute at most.

        now_s: seconds of any clock that only goes forward.
        """
        if self._top and now_s - self._looked_s >= LOOK_S:
            self._looked_s = now_s
            self._known.update(_directories(self._top))
        return self._known.get(number, "")


def _directories(top: str) -> dict[int, str]:
    """Inode to path of the first MOST_LOOKED directories below a hierarchy's root, itself included."""
    try:
        found, left = {os.stat(top).st_ino: "/"}, [""]
    except OSError:
        return {}
    while left and len(found) < MOST_LOOKED:
        path = left.pop()
        with contextlib.suppress(OSError), os.scandir(top + path) as entries:
            for one in entries:
                if one.is_dir(follow_symlinks=False):
                    left.append(f"{path}/{one.name}")
                    found[one.inode()] = shown(left[-1])
    return found


def parse_path(raw: bytes, controller: str) -> bytes:
    """The path in one hierarchy from /proc/PID/cgroup; controller "": the unified one. Empty where it is not in it.

    >>> parse_path(b"4:memory,pids:/a\\\\n0::/b\\\\n", "memory"), parse_path(b"4:memory,pids:/a\\\\n0::/b\\\\n", "")
    (b'/a', b'/b')
    """
    for line in raw.split(b"\n"):
        parts = line.split(b":", 2)
        if len(parts) == 3 and controller.encode() in parts[1].split(b","):
            return parts[2]
    return b""


class GroupSeries:
    """One counter of seconds for each control group that a heavy-hitter table of nanoseconds shows to matter."""

    def __init__(self, name: str, table: HeavyTable, names: GroupNames) -> None:
        """name: of the series. aux of the table: a process of the group."""
        self._name, self._table, self._names = name, table, names
        self._sums: dict[str, float] = {}
        self._places: dict[str, int] = {}
        self._unnamed: dict[int, float] = {}
        self._left_out: set[str] = set()
        self._total = math.nan

    @property
    def left_out(self) -> int:
        """Groups that would have a series but for the cap."""
        return len(self._left_out)

    def step(self, series: list[Series], values: list[float], total: float = math.nan) -> None:
        """Sets the seconds of each group so far; a group that is new is appended to both lists.

        total: of all groups, as coarse as you like; while it stands still, the table need not be looked at.
        """
        rows = self._table.step(HEAVY_SLOTS) if total != self._total else ()
        self._total = total
        for row in rows:
            number, grown = int(row["key"]), float(row["amount"]) / 1e9
            path = self._names.path(number, int(row["aux"]))
            if not path and grown >= MATTERS_S:
                path = self._names.look(number, time.monotonic())
            if path:
                self._sums[path] = self._sums.get(path, 0.0) + grown + self._unnamed.pop(number, 0.0)
                self._show(path, grown, series, values)
            elif number in self._unnamed or len(self._unnamed) < HEAVY_SLOTS:
                self._unnamed[number] = self._unnamed.get(number, 0.0) + grown
        for path, place in self._places.items():
            values[place] = self._sums[path]

    def _show(self, path: str, grown: float, series: list[Series], values: list[float]) -> None:
        if path in self._places or grown < MATTERS_S:
            return
        if len(self._places) >= MOST:
            if len(self._left_out) < HEAVY_SLOTS:
                self._left_out.add(path)
            return
        self._places[path] = len(series)
        series.append(Series(self._name, "seconds/s", "counter", labels(cgroup=path)))
        values.append(0.0)
