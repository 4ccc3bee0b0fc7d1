"""From the arrivals of ranks at their collectives to iterations: a part of the collector gpu_jobs.

An iteration is the time from one occurrence of the marker, the rarest collective of a loop, to its next. What a rank
computed itself in it is that time less what it waited in calls that wait; arrival lateness is the time of its marker
less the median of the others' at the same iteration. Times are CLOCK_MONOTONIC, so ranks of a host compare directly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collector.ebpf.job_probes import RING
from collector.gpu_job_names import Name
from etio.core.frame import Floats
from etio.core.rhythm import TIMES_SEEN, marker_of_codes

ARRIVAL = np.dtype([("number", "<u8"), ("ns", "<u8"), ("count", "<u8"), ("blocked_ns", "<u8"), ("op", "<u4"),
                    ("comm", "<u4")])
Rows = NDArray[Any]
NAN = float("nan")
LOST_PERIODS = 4
"""A marker that did not come for so many periods is looked for anew: the loop has changed."""
STALE_S = 10.0
"""A rank that did not arrive for so long, and for ten periods, does not hold up the others' figures."""


@dataclass(frozen=True, slots=True)
class Step:
    """What a rank did per iteration, on the average of those since the last one told. Seconds; NaN = not known."""

    iterations: int
    seconds: float
    own_seconds: float
    lateness_seconds: float

    @property
    def blocked_ratio(self) -> float:
        """Share of the time in calls that wait, 0..1."""
        return float(np.clip(1.0 - self.own_seconds / self.seconds, 0.0, 1.0)) if self.seconds > 0 else NAN


class Rank:
    """One process: its arrivals, and its marker once its loop is known."""

    def __init__(self, name: Name, pid: int, start: int) -> None:
        self.name, self.pid, self.start = name, pid, start
        self.seen = self.lost = 0
        self.role: frozenset[tuple[int, int]] = frozenset()
        self._recent = np.empty(0, ARRIVAL)
        self._marker: tuple[int, int] | None = None
        self._each = 1
        self._marks = np.empty(0, ARRIVAL)
        self._unmarked = self._wanted = 0
        self.last_ns = 0
        """Of its last arrival."""
        self.usual_s = NAN
        """Of its last iterations that were told."""

    def take(self, rows: Rows) -> None:
        """New arrivals, in order."""
        self.last_ns = int(rows["ns"][-1])
        self._recent = np.concatenate([self._recent, rows])[-RING:]
        if self._marker is not None:
            found = rows[_is(rows, self._marker)]
            self._marks = np.concatenate([self._marks, found])[-RING:]
            self._unmarked = 0 if len(found) else self._unmarked + len(rows)
            if self._unmarked > LOST_PERIODS * len(self._recent) / max(_is(self._recent, self._marker).sum(), 1):
                self._marker = None
        if self._marker is None and len(self._recent) >= 2 * TIMES_SEEN:
            self._find(len(rows))

    def forget(self) -> None:
        """Arrivals were missed: what comes next begins a new iteration."""
        self._recent, self._marks = self._recent[:0], self._marks[:0]

    def _find(self, fresh: int) -> None:
        """Looks for the loop; after a failure only when half as many more have come."""
        self._wanted -= fresh
        if self._wanted > 0:
            return
        codes = list(zip(self._recent["op"].tolist(), self._recent["count"].tolist(), strict=True))
        found = marker_of_codes(codes)
        if found is None:
            self._wanted = len(codes) // 2
            return
        code, self._each = found
        self._marker, self._unmarked, self._wanted = next(c for c in codes if c == code), 0, 0
        self._marks = self._recent[_is(self._recent, self._marker)]
        self.role = frozenset(codes)

    @property
    def marks(self) -> NDArray[np.int64]:
        """Times of its markers not told yet, and of the last one told; ns."""
        return self._marks["ns"].astype(np.int64)

    @property
    def period_ns(self) -> float:
        """Between two markers; NaN where that is not known."""
        marks = self.marks
        return float(marks[-1] - marks[0]) / (len(marks) - 1) if len(marks) > 1 else NAN

    def tell(self, cut_ns: float, others: Sequence[NDArray[np.int64]], period_ns: float) -> Step | None:
        """The iterations that ended until `cut_ns`; None where none did. others: the other ranks' marks."""
        known = int(np.searchsorted(self.marks, cut_ns, side="right"))
        iterations = (known - 1) // self._each if known else 0
        if iterations < 1:
            return None
        last = iterations * self._each
        at, blocked = self.marks, self._marks["blocked_ns"].astype(np.int64)
        seconds = float(at[last] - at[0]) / 1e9 / iterations
        own = seconds - float(blocked[last] - blocked[0]) / 1e9 / iterations
        late = lateness(at[1:last + 1], others, period_ns)
        self._marks, self.usual_s = self._marks[last:], seconds
        return Step(iterations, seconds, own if own > 0 else NAN, late)


def _is(rows: Rows, marker: tuple[int, int]) -> NDArray[np.bool_]:
    return np.asarray((rows["op"] == marker[0]) & (rows["count"] == marker[1]))


def lateness(own: NDArray[np.int64], others: Sequence[NDArray[np.int64]], period_ns: float) -> float:
    """Mean seconds that `own` are after the median of the nearest of each of `others`; NaN without any near enough.

    >>> lateness(np.array([1_000, 2_100]), [np.array([1_000, 2_000]), np.array([990, 2_000])], 1000.0) * 1e9
    52.5
    """
    near = []
    for marks in others:
        if not len(marks):
            continue
        at = np.searchsorted(marks, own)
        before, after = marks[np.maximum(at - 1, 0)], marks[np.minimum(at, len(marks) - 1)]
        best = np.where(np.abs(own - before) <= np.abs(after - own), before, after)
        near.append(np.where(np.abs(own - best) <= period_ns / 2.0, (own - best).astype(np.float64), np.nan))
    ordered = np.sort(np.array(near).reshape(len(near), len(own)), axis=0)  # NaN come last
    count = np.isfinite(ordered).sum(axis=0)
    told = np.flatnonzero(count)
    if not len(told):
        return NAN
    middle = (ordered[(count[told] - 1) // 2, told] + ordered[count[told] // 2, told]) / 2.0
    return float(middle.mean()) / 1e9


def steps_of(ranks: Sequence[Rank]) -> dict[Rank, Step]:
    """The iterations of one job that every rank has come to the end of, so that all speak of the same ones."""
    known = [rank for rank in ranks if len(rank.marks)]
    periods = np.array([rank.period_ns for rank in known])
    if not np.isfinite(periods).any():
        return {}
    period = float(np.nanmedian(periods))
    lasts: Floats = np.array([float(rank.marks[-1]) for rank in known])
    alive = lasts >= lasts.max() - max(10.0 * period, STALE_S * 1e9)
    cut = lasts[alive].min() + period / 2.0
    marks = {rank: rank.marks for rank in known}
    found = {}
    for rank in known:
        step = rank.tell(cut, [m for other, m in marks.items() if other is not rank], period)
        if step is not None:
            found[rank] = step
    return found
