"""Which control groups there are, and how to read their files cheaply.

Reads: the directories of every mounted hierarchy, and of each group the limits and the use.
"""

import math
import os
from collections.abc import Container, Iterable
from dataclasses import dataclass

from collector.cgroup_controllers import Controllers
from collector.cgroup_files import NAN, Mounts, slurp, walk


@dataclass(slots=True)
class Group:
    """What the last scan knew of one group. Limits: inf = none. leaf: it has no child groups."""

    path: str
    found: Controllers
    quota_cores: float = NAN
    memory_limit: float = NAN
    pids_limit: float = NAN
    cpu_seconds: float = NAN
    memory_bytes: float = NAN
    cpu_score: float = 0.0
    leaf: bool = True
    scans: int = 0

    @property
    def limited(self) -> int:
        """3 with a CPU quota or a memory limit, 1 with a limit of tasks only, 0 without any."""
        if math.isfinite(self.quota_cores) or math.isfinite(self.memory_limit):
            return 3
        return 1 if math.isfinite(self.pids_limit) else 0


class Held:
    """Files kept open: reading one again costs 1 us instead of 8. A removed group's file fails once and is let go."""

    def __init__(self, limit: int = 240) -> None:
        self._limit = limit
        self._fds: dict[str, int] = {}

    def read(self, path: str) -> bytes | None:
        """The file's bytes, or None."""
        fd = self._fds.get(path)
        if fd is None:
            return self._open(path)
        try:
            return os.pread(fd, 16384, 0)
        except OSError:
            os.close(self._fds.pop(path))
            return self._open(path)

    def _open(self, path: str) -> bytes | None:
        if len(self._fds) >= self._limit:
            return slurp(path)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return None
        self._fds[path] = fd
        try:
            return os.pread(fd, 16384, 0)
        except OSError:
            os.close(self._fds.pop(path))
            return None

    def keep_below(self, tops: Iterable[str], groups: set[str]) -> None:
        """Lets go of the files of every group that is not in `groups` (paths below any of the hierarchies)."""
        wanted = {top + group for top in tops for group in groups}
        for path in [p for p in self._fds if os.path.dirname(p) not in wanted]:
            os.close(self._fds.pop(path))

    def close(self) -> None:
        """Lets go of everything."""
        self.keep_below((), set())


Groups = dict[str, Group]
Where = dict[str, set[str]]


def find_groups(mounts: Mounts) -> Where:
    """Every group but the root, by path, with the hierarchies it exists in."""
    where: Where = {}
    for top in mounts.roots():
        for path in walk(top):
            if path:
                where.setdefault(path, set()).add(top)
    return where


def scan(mounts: Mounts, found: Controllers, before: Groups, watched: Container[str] = ()) -> Groups:
    """All groups but the root, by path, with limits, use and (against `before`) CPU growth.

    Old groups that are not watched are looked at in every fourth scan only.
    """
    where = find_groups(mounts)
    groups: Groups = {}
    for path, tops in where.items():
        old = before.get(path)
        if old is not None and old.scans >= 5 and old.scans % 4 and path not in watched:
            groups[path] = old
        else:
            groups[path] = _look(path, found.within(tops), old)
        groups[path].leaf = True
        groups[path].scans += 1
    for path in groups:
        parent = groups.get(path.rpartition("/")[0])
        if parent is not None:
            parent.leaf = False
    return groups


def _look(path: str, found: Controllers, before: Group | None) -> Group:
    group = Group(path, found)
    if found.cpu is not None:
        group.quota_cores = found.cpu.quota(path, slurp)
        group.cpu_seconds = found.cpu.seconds(path, slurp)
    if found.memory is not None:
        group.memory_limit = found.memory.limit(path, slurp)
        group.memory_bytes = found.memory.usage(path, slurp)
    if found.pids is not None:
        group.pids_limit = found.pids.limit(path, slurp)
    if before is not None:
        growth = group.cpu_seconds - before.cpu_seconds
        group.scans = before.scans
        group.cpu_score = 0.8 * before.cpu_score + (growth if growth > 0 else 0.0)
    return group


def working_set(usage: float, inactive: float) -> float:
    """Bytes in use that cannot just be dropped; NaN where either is unknown (max() would turn NaN into 0)."""
    used = usage - inactive
    return 0.0 if used < 0 else used
