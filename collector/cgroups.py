"""Control groups that have a limit, and the biggest of the others.

Reads: cpu, cpuacct, memory, pids, blkio files of v1, or cpu, memory, pids, io files of v2, or a mix of both.
Emits: cgroup_* series by group; groups beyond the cap are counted in cgroup_groups_left_out.
Needs: nothing (the files are readable by everybody).
Source: Documentation/admin-guide/cgroup-v1/ and cgroup-v2.rst of the kernel.
"""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from collector.cgroup_controllers import Controllers, Kept, Memory, controllers
from collector.cgroup_files import NAN, Mounts, find_mounts, shown
from collector.cgroup_scan import Group, Held, scan, working_set
from collector.cgroup_table import CgroupReader
from etio.core.due import is_due
from etio.core.errors import NoData
from etio.core.frame import NS, Reading
from etio.core.ports import CollectorSpec, Emits
from etio.core.series import Kind, Series, labels

__all__ = ["COLLECTOR", "CgroupReader", "Cgroups", "Config", "choose"]

EMITS = (
    Emits("cgroup_groups", "1", (), "control groups on this host"),
    Emits("cgroup_groups_left_out", "1", (), "groups with a limit that are not watched, because of max_groups"),
    Emits("cgroup_cpu_usage_cores", "cores", ("cgroup",), "CPU time used, children included"),
    Emits("cgroup_cpu_quota_cores", "cores", ("cgroup",), "CPU quota"),
    Emits("cgroup_cpu_throttled_ratio", "ratio", ("cgroup",), "throttled periods over periods"),
    Emits("cgroup_cpu_throttled_seconds_per_second", "seconds/s", ("cgroup",), "time throttled, all cores"),
    Emits("cgroup_memory_used_bytes", "bytes", ("cgroup",), "charged memory less inactive file cache"),
    Emits("cgroup_memory_used_ratio", "ratio", ("cgroup",), "the same over the limit"),
    Emits("cgroup_memory_failures_per_second", "1/s", ("cgroup",), "v1 memory.failcnt; v2 memory.events max + high"),
    Emits("cgroup_memory_refaults_per_second", "1/s", ("cgroup",), "pages that came back after they were dropped"),
    Emits("cgroup_memory_pressure_some_ratio", "ratio", ("cgroup",), "time some task waited for memory (v2)"),
    Emits("cgroup_oom_kills_per_second", "1/s", ("cgroup",), "processes ended by the OOM killer"),
    Emits("cgroup_memory_oom_waiting", "1", ("cgroup",), "1 = its tasks wait for memory, its OOM killer is off (v1)"),
    Emits("cgroup_pids_used_ratio", "ratio", ("cgroup",), "tasks over pids.max"),
)
UNITS = {one.name: one.unit for one in EMITS}
KINDS: dict[str, Kind] = {
    "cgroup_cpu_usage_cores": "counter",
    "cgroup_cpu_throttled_ratio": "mean",
    "cgroup_cpu_throttled_seconds_per_second": "counter",
    "cgroup_memory_failures_per_second": "counter",
    "cgroup_memory_refaults_per_second": "counter",
    "cgroup_memory_pressure_some_ratio": "counter",
    "cgroup_oom_kills_per_second": "counter",
}


@dataclass(frozen=True, slots=True)
class Config:
    """max_groups: most groups watched at a time; lifetime_groups: most ever watched by one process, for series stay.

    big_users: how many groups without a limit are watched, by CPU and by memory each.
    scan_s: seconds between looks for new groups while such a look costs less than scan_cpu_ratio of that time.
    """

    max_groups: int = 64
    lifetime_groups: int = 1000
    big_users: int = 6
    scan_s: float = 3.0
    scan_cpu_ratio: float = 0.0005

    def __post_init__(self) -> None:
        if min(self.max_groups, self.lifetime_groups, self.scan_s, self.scan_cpu_ratio) <= 0 or self.big_users < 0:
            raise ValueError("max_groups, lifetime_groups, scan_s and scan_cpu_ratio must be above 0")


MEETS = 10.0
"""Times a group meets its limit between two readings of its memory.stat."""
SCAN_MOST_S = 30.0
"""The longest pause between two looks for new groups, whatever they cost: one that is throttled must be found while it
matters. On a slow host a look of 0.1 s meant 200 s of blindness."""


def choose(groups: dict[str, Group], config: Config, watched: Iterable[str]) -> tuple[list[str], int]:
    """(paths to watch, how many groups with a limit are left out).

    First come groups with a quota or a memory limit, then the biggest users, then groups with a limit of tasks only;
    among equals those that are watched already stay.
    """
    leaves = [g for g in groups.values() if g.leaf]
    by_cpu = sorted((g for g in leaves if g.cpu_score > 0), key=lambda g: -g.cpu_score)[: config.big_users]
    by_memory = sorted((g for g in leaves if g.memory_bytes > 0), key=lambda g: -g.memory_bytes)[: config.big_users]
    big = {g.path for g in [*by_cpu, *by_memory]}
    already = set(watched)

    def rank(group: Group) -> tuple[int, bool, str]:
        weight = max(group.limited, 2 if group.path in big else 0)
        return -weight, group.path not in already, group.path

    wanted = sorted((g for g in groups.values() if g.limited or g.path in big), key=rank)
    kept = [g.path for g in wanted[: config.max_groups]]
    return kept, sum(1 for g in wanted[config.max_groups:] if g.limited)


@dataclass(slots=True)
class _Row:
    """The series of one group: name to place. kept: its memory.stat, read when the usage was `kept_at` and the group
    had met its limit `met` times."""

    places: dict[str, int] = field(default_factory=dict)
    kept: Kept = field(default_factory=Kept)
    kept_at: float = NAN
    kept_ns: int = 0
    met: float = NAN


class Cgroups:
    """The collector. Its series list grows with every group that comes to be watched."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._held = Held()
        self._series: list[Series] = [Series("cgroup_groups", "1"), Series("cgroup_groups_left_out", "1")]
        self._rows: dict[str, _Row] = {}
        self._groups: dict[str, Group] = {}
        self._watched: list[str] = []
        self._left_out = 0
        self._next_scan_ns = 0
        self._mounts: Mounts | None = None
        self._controllers: Controllers | None = None

    def open(self, root: Path) -> None:
        """Finds the hierarchies. Raises NoData where no controller read here is mounted, Broken without /proc."""
        mounts = find_mounts(root)
        found = controllers(mounts)
        if found.cpu is None and found.memory is None and found.pids is None:
            raise NoData("cgroups: neither cpu nor memory nor pids is mounted")
        self._mounts, self._controllers = mounts, found

    def close(self) -> None:
        """Lets the open files go."""
        self._held.close()

    def collect(self, t_ns: int) -> Reading:
        """One reading of the watched groups. Raises NoData before open()."""
        mounts, found = self._mounts, self._controllers
        if mounts is None or found is None:
            raise NoData("cgroups: not open")
        if is_due(t_ns, self._next_scan_ns, int(max(SCAN_MOST_S, self._config.scan_s) * NS)):
            self._scan(mounts, found, t_ns)
        values = np.full(len(self._series) + 14 * len(self._watched), np.nan)
        weights = np.full(len(values), np.nan)
        values[0], values[1] = len(self._groups), self._left_out
        for path in self._watched:
            for name, value, weight in self._read(path, t_ns):
                place = self._place(path, name, value)
                if place >= 0:
                    values[place], weights[place] = value, weight
        n = len(self._series)
        return Reading(self._series, values[:n], weights[:n])

    def _scan(self, mounts: Mounts, found: Controllers, t_ns: int) -> None:
        """Looks for new groups; the next look comes the later the more this one cost."""
        started = time.thread_time()
        self._groups = scan(mounts, found, self._groups, set(self._watched))
        watched, left_out = choose(self._groups, self._config, self._watched)
        fresh = [p for p in watched if p not in self._rows]
        room = self._config.lifetime_groups - len(self._rows)
        refused = set(fresh[max(0, room):])
        self._rows.update((p, _Row()) for p in fresh if p not in refused)
        self._watched = [p for p in watched if p not in refused]
        self._left_out = left_out + len(refused)
        self._held.keep_below(mounts.roots(), set(self._watched))
        cost = time.thread_time() - started
        pause = max(self._config.scan_s, min(cost / self._config.scan_cpu_ratio, SCAN_MOST_S))
        self._next_scan_ns = t_ns + int(pause * NS) - NS // 10  # a tick may come a little early

    def _place(self, path: str, name: str, value: float) -> int:
        """Place of a series; -1 while it never had a value (on v1 a group need not exist for every controller)."""
        places = self._rows[path].places
        if name not in places:
            if math.isnan(value):
                return -1
            places[name] = len(self._series)
            self._series.append(Series(name, UNITS[name], KINDS.get(name, "gauge"), labels(cgroup=shown(path))))
        return places[name]

    def _read(self, path: str, t_ns: int) -> Iterable[tuple[str, float, float]]:
        """(series name, raw value, weight) of one group; what does not apply to it is left out."""
        group = self._groups[path]
        found, read = group.found, self._held.read
        big = not group.limited
        if found.cpu is not None and (big or math.isfinite(group.quota_cores)):
            yield "cgroup_cpu_usage_cores", found.cpu.seconds(path, read), NAN
            if math.isfinite(group.quota_cores):
                told = found.cpu.throttling(path, read)
                yield "cgroup_cpu_quota_cores", group.quota_cores, NAN
                yield "cgroup_cpu_throttled_ratio", told.throttled_periods, told.periods
                yield "cgroup_cpu_throttled_seconds_per_second", told.throttled_seconds, NAN
        if found.memory is not None and (big or math.isfinite(group.memory_limit)):
            yield from self._read_memory(group, found.memory, t_ns)
        if found.pids is not None and math.isfinite(group.pids_limit) and group.pids_limit > 0:
            yield "cgroup_pids_used_ratio", found.pids.current(path, read) / group.pids_limit, NAN

    def _read_memory(self, group: Group, memory: Memory, t_ns: int) -> Iterable[tuple[str, float, float]]:
        path, read = group.path, self._held.read
        usage = memory.usage(path, read)
        limited = math.isfinite(group.memory_limit)
        met = memory.failures(path, read) if limited else NAN
        kept = self._kept(group, usage, met, memory, t_ns)
        used = working_set(usage, kept.inactive_file)
        yield "cgroup_memory_used_bytes", used, NAN
        if not limited:
            return
        yield "cgroup_memory_used_ratio", used / group.memory_limit if group.memory_limit > 0 else NAN, NAN
        yield "cgroup_memory_failures_per_second", met, NAN
        yield "cgroup_memory_refaults_per_second", kept.refaults, NAN
        ooms = memory.ooms(path, read)
        yield "cgroup_oom_kills_per_second", ooms.kills, NAN
        yield "cgroup_memory_oom_waiting", ooms.waiting, NAN
        stalled = group.found.stalled_seconds(path, read)
        if not math.isnan(stalled):
            yield "cgroup_memory_pressure_some_ratio", stalled, NAN

    def _kept(self, group: Group, usage: float, met: float, memory: Memory, t_ns: int) -> Kept:
        """memory.stat is the dearest file: it is read when the usage moved, when the group keeps meeting its limit (it
        stays at it then, whatever goes in and out), or after 10 s."""
        row = self._rows[group.path]
        step = 0.01 * min(group.memory_limit, 100 * usage)
        moved = not abs(usage - row.kept_at) <= max(step, 65536.0) or met - row.met >= MEETS
        if moved or t_ns - row.kept_ns > 10 * NS:
            row.kept = memory.kept(group.path, self._held.read)
            row.kept_at, row.kept_ns, row.met = usage, t_ns, met
        return row.kept


COLLECTOR = CollectorSpec(
    name="cgroups",
    config=Config,
    build=Cgroups,
    reads="/sys/fs/cgroup (v1, v2 and both), found through /proc/self/mountinfo",
    emits=EMITS,
    source="Documentation/admin-guide/cgroup-v1, cgroup-v2.rst",
)
