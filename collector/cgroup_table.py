"""All control groups at one moment, on request.

Reads: cpu, cpuacct, memory, pids, blkio files of v1, or cpu, memory, pids, io files of v2, or a mix of both.
Gives: etio.core.facts.CgroupTable. Figures of a group include those of the groups below it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from collector.cgroup_controllers import Controllers, Memory, Read, Throttling, controllers
from collector.cgroup_files import NAN, Mounts, find_mounts, members_of, shown, slurp
from collector.cgroup_scan import Held, find_groups, working_set
from etio.core.facts import Cgroup, CgroupTable, unit_of
from etio.core.frame import NS

NEAR = 0.8
"""Share of its limit of tasks or memory from which on a group's processes are looked up."""
MEMBERS, BELOW = 512, 64
"""So many processes, of so many groups, are looked up at most."""


@dataclass(slots=True)
class _Limits:
    """What of a group is read again every ten seconds only."""

    read_ns: int
    quota: float
    memory: float
    pids: float


@dataclass(slots=True)
class _Row:
    """What the last look found. A group that used no CPU time and whose memory did not move since then is the same."""

    seconds: float
    usage: float
    limits: _Limits
    whole: Cgroup


class CgroupReader:
    """All control groups on request. Keeps files open, limits for ten seconds, and what was found in groups at rest.
    Not thread-safe."""

    def __init__(self, root: Path, limit: int = 2000) -> None:
        self._root = root
        self._limit = limit
        self._controllers: Controllers | None = None
        self._mounts: Mounts | None = None
        self._several: frozenset[str] = frozenset()
        """Hierarchies of v1: a process is in one group of each. In the unified one its own path says it all."""
        self._held = Held(160)
        self._limits: dict[str, _Limits] = {}
        self._rows: dict[str, _Row] = {}
        self._inactive: dict[str, tuple[float, float]] = {}

    def read(self, t_ns: int) -> CgroupTable:
        """Every group but the root, at most `limit`. Raises NoData where none is mounted, Broken without /proc."""
        if self._mounts is None or self._controllers is None:
            self._mounts = find_mounts(self._root)
            self._controllers = controllers(self._mounts)
            self._several = frozenset(self._mounts.v1.values())
        where = find_groups(self._mounts)
        for kept in (self._limits, self._inactive, self._rows):
            for path in [p for p in kept if p not in where]:
                del kept[path]
        self._held.keep_below(self._mounts.roots(), set(where))
        some = list(where.items())[: self._limit]
        return CgroupTable(t_ns, tuple(self._whole(p, self._controllers.within(tops), t_ns) for p, tops in some))

    def close(self) -> None:
        """Lets the open files go; may be called twice."""
        self._held.close()

    def _whole(self, path: str, found: Controllers, t_ns: int) -> Cgroup:
        """One group with everything that is known about it."""
        read, limits = _Once(self._held.read), self._limits_of(path, found, t_ns)
        seconds = found.cpu.seconds(path, read) if found.cpu else NAN
        usage = found.memory.usage(path, read) if found.memory else NAN
        row = self._rows.get(path)
        if row is None or (row.seconds, row.usage, row.limits) != (seconds, usage, limits):
            row = self._rows[path] = _Row(seconds, usage, limits, self._look(path, found, limits, read))
        tasks = found.pids.current(path, read) if found.pids and math.isfinite(limits.pids) else row.whole.pids
        tops = [found.pids.top] if found.pids and tasks >= NEAR * limits.pids else []
        if found.memory and usage >= NEAR * limits.memory:
            tops.append(found.memory.top)
        members = _members([top + path for top in dict.fromkeys(tops) if top in self._several])
        if (tasks, members) != (row.whole.pids, row.whole.members):
            row.whole = replace(row.whole, pids=tasks, members=members)
        return row.whole

    def _look(self, path: str, found: Controllers, limits: _Limits, read: "_Once") -> Cgroup:
        cpu, memory, pids = found.cpu, found.memory, found.pids
        told = cpu.throttling(path, read) if cpu else Throttling()
        read_bytes, write_bytes = found.io.bytes(path, read) if found.io else (NAN, NAN)
        return Cgroup(
            path=shown(path), unit=unit_of(shown(path)), cpu_seconds=cpu.seconds(path, read) if cpu else NAN,
            quota_cores=limits.quota, periods=told.periods, throttled_periods=told.throttled_periods,
            throttled_seconds=told.throttled_seconds,
            memory_bytes=self._memory(path, memory, read) if memory else NAN, memory_limit_bytes=limits.memory,
            memory_failures=memory.failures(path, read) if memory else NAN,
            oom_kills=memory.ooms(path, read).kills if memory else NAN,
            pids=pids.current(path, read) if pids else NAN, pids_limit=limits.pids,
            read_bytes=read_bytes, write_bytes=write_bytes,
        )

    def _limits_of(self, path: str, found: Controllers, t_ns: int) -> _Limits:
        limits = self._limits.get(path)
        if limits is None or not 0 <= t_ns - limits.read_ns < 10 * NS:
            limits = self._limits[path] = _Limits(
                t_ns, found.cpu.quota(path, slurp) if found.cpu else NAN,
                found.memory.limit(path, slurp) if found.memory else NAN,
                found.pids.limit(path, slurp) if found.pids else NAN)
        return limits

    def _memory(self, path: str, memory: Memory, read: "_Once") -> float:
        """Bytes in use that cannot just be dropped; memory.stat is read only when the usage changed."""
        usage = memory.usage(path, read)
        inactive, at = self._inactive.get(path, (NAN, NAN))
        if usage != at:
            inactive = memory.kept(path, self._held.read).inactive_file
            self._inactive[path] = (inactive, usage)
        return working_set(usage, inactive)


class _Once:
    """Reads each file of one group once: cpu.stat and memory.events hold several of its figures."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._seen: dict[str, bytes | None] = {}

    def __call__(self, path: str) -> bytes | None:
        if path not in self._seen:
            self._seen[path] = self._read(path)
        return self._seen[path]


def _members(folders: Sequence[str]) -> tuple[int, ...]:
    """Processes of a group and of those below it, the newest of each first; empty where they cannot be seen."""
    found: dict[int, None] = {}
    for folder in folders:
        for pids in members_of(folder, BELOW):
            found.update(dict.fromkeys(sorted(pids, reverse=True)))
    return tuple(found)[:MEMBERS]
