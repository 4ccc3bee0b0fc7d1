"""When will it be full? Time to exhaustion of disks, inodes, memory, swap, handles, tasks, connections, GPU memory.

What is left of each resource is rolled up at five paces (5 s up to 40 min, 36 means each: 3 minutes up to a day). At
each pace a robust line with its 90 % interval (`detectors.sen`) tells when nothing is left. It speaks only when the
forecast can be trusted: nearly every pair of means falls (tau), the interval is narrow, the newest third still falls,
and the forecast reaches no further ahead than `reach` times what was seen of the decline. So a writer that fills a disk
within minutes is told after 40 seconds, and one that needs a day after hours. What has come back at least twice from
further down is not told before it is further down again: a log that is written and rotated, a build that frees.

A score is (time that is soon) / (time left), 0 without a trustworthy decline, NaN without a value.

Memory: 1 kB per resource, at most `series` of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from detectors.columns import Bools, Columns, Ints, Memory, part
from detectors.keeping import Keeping
from detectors.rollup import Rollups
from detectors.sen import Slope, sen
from etio.core.errors import Broken
from etio.core.frame import Floats, Frame
from etio.core.ports import DetectorSpec
from etio.core.score import Scores
from etio.core.series import Series
from etio.core.words import amount, between, duration

PACES_S = (5.0, 20.0, 120.0, 600.0, 2400.0)
TAU = 0.8
"""Least share of falling pairs less that of rising ones: 90 % fall."""
WIDEST = 1.0
"""Widest interval, in times left."""
LATE = 0.15
"""Of the decline that must lie in the newest third: a cache that fills levels off."""
COMEBACK = 0.3
"""Of the range seen: a rise of that size is a comeback (a rotation, a clean-up)."""
COMEBACKS = 2
NEARLY_GONE = 0.05
"""Of the most that was ever left: what has been below does not count as a place that is safe to return to."""
LARGEST = 100.0


@dataclass(frozen=True, slots=True)
class Resource:
    """Something that runs out. series: whose value is what is left ("left"), or the share in use ("used").

    reach: times the decline seen that a forecast may go ahead. first: finest pace that is looked at. least: means.
    """

    series: str
    alert: str
    how: str
    reach: float
    first: int
    least: int = 12


RESOURCES = (
    Resource("filesystem_available_bytes", "FilesystemFillsSoon", "left", 2.0, 0, 8),
    Resource("filesystem_inodes_used_ratio", "InodesRunOutSoon", "used", 2.0, 0, 8),
    Resource("memory_available_bytes", "MemoryExhaustsSoon", "left", 1.0, 1),
    Resource("memory_swap_used_ratio", "SwapExhaustsSoon", "used", 1.0, 1),
    Resource("kernel_file_handles_used_ratio", "FileHandlesRunOutSoon", "used", 1.5, 1),
    Resource("kernel_pids_used_ratio", "PidsRunOutSoon", "used", 1.5, 0, 8),
    Resource("cgroup_pids_used_ratio", "PidsRunOutSoon", "used", 1.5, 0, 8),
    Resource("conntrack_used_ratio", "ConntrackFillsSoon", "used", 1.5, 0, 8),
    Resource("gpu_memory_used_ratio", "GpuMemoryExhaustsSoon", "used", 1.0, 2),
)
"""Memory is looked at over minutes and no further ahead than back: programs load what they need, then stay. The memory
of control groups is left out: it holds page cache and fills to its limit on a healthy host."""


@dataclass(frozen=True, slots=True)
class Config:
    """Hours before the end that are "soon", by resource, and the most resources that are followed."""

    filesystem_soon_h: float = 24.0
    memory_soon_h: float = 6.0
    other_soon_h: float = 6.0
    series: int = 256

    def __post_init__(self) -> None:
        if min(self.filesystem_soon_h, self.memory_soon_h, self.other_soon_h) <= 0 or self.series < 1:
            raise ValueError("hours must be positive, series at least 1")

    def soon_s(self, alert: str) -> float:
        """Seconds left at which this alert fires."""
        if alert in ("FilesystemFillsSoon", "InodesRunOutSoon"):
            return 3600.0 * self.filesystem_soon_h
        return 3600.0 * (self.memory_soon_h if alert == "MemoryExhaustsSoon" else self.other_soon_h)


class Trends(Keeping):
    """Scores each resource; the notes carry the time left, its interval, the pace and since when it was watched.

    >>> from etio.core.frame import NS
    >>> one = Trends(Config())
    >>> series = (Series("filesystem_available_bytes", "bytes", labels=(("mount", "/data"),)),)
    >>> for t in range(100):
    ...     scores = one.step(Frame(t * NS + NS, series, np.array([2e8 - 1e6 * t])))
    >>> scores.series[0].key, bool(scores.values[0] > 1)
    ('FilesystemFillsSoon{mount="/data"}', True)
    >>> scores.notes[0]
    ': nothing left in 1.7 min (1.7 to 1.7 min) at 977 KiB/s, seen for 1.6 min'
    """

    name = "trends"

    def __init__(self, config: Config) -> None:
        self._config = config
        self._reset()

    def _reset(self) -> None:
        self._rolled = Rollups(PACES_S)
        k = len(PACES_S)
        self._told = Columns(score=np.full((k, 1), np.nan), left=np.full((k, 1), np.nan), at=np.full((k, 1), np.nan),
                             low=np.full((k, 1), np.nan), high=np.full((k, 1), np.nan), span=np.zeros((k, 1)))
        self._at: Ints = np.empty(0, dtype=np.intp)
        self._resources: list[Resource] = []
        self._series: tuple[Series, ...] = ()
        self._inputs: list[Series] = []
        self._soon, self._reach = np.empty(0), np.empty(0)
        self._least, self._first = np.empty(0), np.empty(0)
        self._used: Bools = np.empty(0, dtype=np.bool_)
        self._known = self._t_ns = 0
        self._memory = Memory()

    def step(self, frame: Frame) -> Scores:
        """float64[resources]; a tick at or before the last one changes nothing."""
        self._grow(frame.series)
        x = frame.values[self._at]
        room = np.where(np.isfinite(x), np.where(self._used, 1.0 - x, x), np.nan)
        if frame.t_ns > self._t_ns or not self._t_ns:
            for level in self._rolled.step(frame.t_ns, room) if len(self._at) else ():
                self._judge(level)
        self._t_ns = frame.t_ns
        return self._scores(room)

    def _judge(self, level: int) -> None:
        """Fits what may be running out at this pace; most resources are seen not to by three of their means."""
        ring = self._rolled.ring(level)
        newest, seen = ring[-1], np.isfinite(ring)
        first = ring[seen.argmax(axis=0), np.arange(ring.shape[1])]
        fallen = first - newest
        enough = (seen.sum(axis=0) >= self._least) & (level >= self._first)
        told = self._told
        told["score"][level] = np.where(enough & np.isfinite(newest), 0.0, np.nan)
        falling = enough & (fallen > 0) & (newest > 0) & (fallen * self._reach * 1.5 >= newest)
        for i in np.flatnonzero(falling).tolist():
            self._forecast(level, i, ring[:, i])

    def _forecast(self, level: int, i: int, room: Floats) -> None:
        fit, now = sen(room[:, None]), float(room[-1])
        low, high = _left(fit, now, PACES_S[level])
        left = now / -float(fit.slope[0]) * PACES_S[level] if fit.slope[0] < 0 else np.inf
        span = (int(np.isfinite(room).sum()) - 1) * PACES_S[level]
        if not _trusted(fit, room, left, low, high) or left > self._reach[i] * span or self._visited(i, now):
            return
        told = self._told
        told["score"][level, i] = min(float(self._soon[i]) / max(left, 1.0), LARGEST)
        for name, value in (("left", left), ("low", low), ("high", high), ("at", now), ("span", span)):
            told[name][level, i] = value

    def _visited(self, i: int, now: float) -> bool:
        """Whether it has been further down and come back, repeatedly, at any pace: then this is no news."""
        for level in range(len(PACES_S)):
            room = self._rolled.ring(level)[:, i]
            room = room[np.isfinite(room)]
            if len(room) < 3:
                continue
            low, high = float(room.min()), float(room.max())
            comebacks = int((np.diff(room) > COMEBACK * (high - low)).sum())
            if comebacks >= COMEBACKS and now > low > NEARLY_GONE * high:
                return True
        return False

    def _scores(self, room: Floats) -> Scores:
        """The gravest pace of each; a forecast is dropped when what is left has grown again."""
        told = self._told
        score = np.where(room > told["at"] * 1.02, np.fmin(told["score"], 0.0), told["score"])
        best = np.fmax.reduce(score, axis=0) if score.size else np.empty(0)
        best = np.where(np.isfinite(room), best, np.nan)
        notes = {i: self._note(i, int(np.nanargmax(score[:, i]))) for i in np.flatnonzero(best >= 1.0).tolist()}
        return Scores(self.name, self._series, best, notes)

    def _note(self, i: int, level: int) -> str:
        told = {name: float(self._told[name][level, i]) for name in ("left", "low", "high", "at", "span")}
        unit = self._inputs[i].unit
        pace = told["at"] / told["left"]
        per = f"{amount(pace * 60, unit)} a minute" if unit == "ratio" else amount(pace, f"{unit}/s")
        return (f": nothing left in {duration(told['left'])} ({between(told['low'], told['high'])}) at {per},"
                f" seen for {duration(told['span'])}")

    def _grow(self, series: tuple[Series, ...]) -> None:
        fresh = [(i, s) for i, s in enumerate(series[self._known:], self._known) if s.name in _RESOURCES]
        self._known = max(self._known, len(series))
        fresh = fresh[:self._config.series - len(self._inputs)]
        if not fresh:
            return
        before = len(self._inputs)
        self._inputs += [s for _, s in fresh]
        self._resources += [_RESOURCES[s.name] for _, s in fresh]
        self._series += tuple(Series(_RESOURCES[s.name].alert, "thresholds", labels=s.labels) for _, s in fresh)
        self._at = np.concatenate([self._at, np.array([i for i, _ in fresh], dtype=np.intp)])
        self._used = np.array([r.how == "used" for r in self._resources], dtype=np.bool_)
        self._reach = np.array([r.reach for r in self._resources])
        self._least = np.array([r.least for r in self._resources])
        self._first = np.array([r.first for r in self._resources])
        self._soon = np.array([self._config.soon_s(r.alert) for r in self._resources])
        self._rolled.columns.grow(len(self._inputs))
        self._told.grow(len(self._inputs))
        self._memory.adopt(self._inputs, before)

    def snapshot(self) -> Mapping[str, Any]:
        """The means at every pace and what is being told, by series key."""
        return {"keys": [s.key for s in self._inputs], "t_ns": self._t_ns, "rolled": self._rolled.snapshot(),
                "told": self._told.snapshot()}

    def _restore(self, state: Mapping[str, Any]) -> None:
        keys, t_ns = part(state, "keys", list), part(state, "t_ns", int)
        if t_ns < 0:
            raise Broken("detector state: t_ns: negative")
        saved = self._rolled.restore(part(state, "rolled", dict))
        self._memory.load(keys, [(self._rolled.columns, saved), (self._told, part(state, "told", dict))])
        self._t_ns = t_ns


def _left(fit: Slope, now: float, pace_s: float) -> tuple[float, float]:
    """Least and most seconds left by the interval of the slope; inf where it may as well not fall."""
    fast, slow = float(fit.low[0]), float(fit.high[0])
    return (now / -fast * pace_s if fast < 0 else np.inf), (now / -slow * pace_s if slow < 0 else np.inf)


def _trusted(fit: Slope, room: Floats, left: float, low: float, high: float) -> bool:
    """Whether the decline is steady, still going on, and the interval of its end narrow."""
    if not (fit.tau[0] <= -TAU and np.isfinite(high) and high - low <= WIDEST * left):
        return False
    known = room[np.isfinite(room)]
    third = known[-max(len(known) // 3, 2)]
    return bool(third - known[-1] >= LATE * (known[0] - known[-1]))


_RESOURCES = {one.series: one for one in RESOURCES}

DETECTOR = DetectorSpec(
    name="trends",
    config=Config,
    build=Trends,
    scope="rule",
    help="time to full or exhausted, with an interval: disks, inodes, memory, swap, handles, tasks, GPU memory",
)
