"""The recent past of a few series at several paces: rings of means over 5 s up to 40 min, as arrays.

Memory: 800 bytes per series for five levels of 36 means.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detectors.columns import Columns, part
from etio.core.errors import Broken
from etio.core.frame import NS, Floats

MEANS = 36
"""Means kept per level: enough for a slope with an interval, few enough to look at all pairs of them."""


class Rollups:
    """Means of n series at k paces; stretches without any value are NaN, time without frames too.

    >>> rolled = Rollups((5.0, 20.0))
    >>> rolled.columns.grow(1)
    >>> closed = [rolled.step(t * NS, np.array([float(t)])) for t in range(100, 142)]
    >>> [list(c) for c in closed if c], rolled.ring(0)[-3:, 0], rolled.ring(1)[-2:, 0]
    ([[0], [0], [0], [0, 1], [0], [0], [0], [0, 1]], array([127., 132., 137.]), array([109.5, 129.5]))
    """

    def __init__(self, paces_s: Sequence[float]) -> None:
        """paces_s: seconds of one mean at each level, ascending, each a whole multiple of the one before."""
        self.paces_s = tuple(paces_s)
        k = len(self.paces_s)
        self.columns = Columns(
            ring=np.full((k, MEANS, 1), np.nan, dtype=np.float32), total=np.zeros((k, 1)), count=np.zeros((k, 1)))
        self._steps = [int(pace * NS) for pace in self.paces_s]
        self._open: list[int] = []
        """Which stretch of each level is being filled, counted from the epoch."""

    def ring(self, level: int) -> Floats:
        """float64[MEANS, n], oldest first; the newest is the last closed stretch."""
        return np.asarray(self.columns["ring"][level], dtype=np.float64)

    def opened(self, level: int) -> int:
        """Nanoseconds at which the open stretch of a level began, which is the end of the newest mean."""
        return self._open[level] * self._steps[level]

    def step(self, t_ns: int, x: Floats) -> tuple[int, ...]:
        """Adds one sample of each series (float64[n], NaN = none); returns the levels whose stretch has just closed.

        The caller sees to it that time only goes forward; a clock set back begins a new stretch.
        """
        now = [t_ns // step for step in self._steps]
        if not self._open:
            self._open = now
        closed = tuple(i for i, (was, at) in enumerate(zip(self._open, now, strict=True)) if at != was)
        for level in closed:
            self._close(level, now[level])
        known = np.isfinite(x)
        np.add(self.columns["total"][0], x, out=self.columns["total"][0], where=known)
        self.columns["count"][0] += known
        return closed

    def _close(self, level: int, now: int) -> None:
        """Moves the open mean into the ring, and into the open one of the next level."""
        total, count = self.columns["total"], self.columns["count"]
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(count[level] > 0, total[level] / count[level], np.nan)
        ring = self.columns["ring"][level]
        forward = min(max(now - self._open[level], 1), MEANS)
        if forward < MEANS:
            ring[:-forward] = ring[forward:].copy()
        ring[-forward:] = np.nan
        ring[-forward] = mean
        if level + 1 < len(self.paces_s):
            total[level + 1] += total[level]
            count[level + 1] += count[level]
        total[level] = count[level] = 0.0
        self._open[level] = now

    def snapshot(self) -> dict[str, Any]:
        """Copies of the state."""
        return {"columns": self.columns.snapshot(), "open": list(self._open)}

    def restore(self, state: Mapping[str, Any]) -> Mapping[str, Any]:
        """Takes the moments back and returns the saved columns, for `columns.Memory`. Raises Broken."""
        opened = part(state, "open", list)
        if len(opened) not in (0, len(self.paces_s)) or any(type(one) is not int for one in opened):
            raise Broken("detector state: open: expected one stretch for each level")
        self._open = list(opened)
        saved: Mapping[str, Any] = part(state, "columns", dict)
        return saved
