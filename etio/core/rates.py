"""From cumulative numbers to finished values. Rates are made here and nowhere else, those of all collectors at once:
a few operations on long arrays a tick, instead of a dozen on short ones for each collector."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from etio.core.frame import NS, Floats, Reading
from etio.core.series import Series

_NOW, _BEFORE, _UNDER, _UNDER_BEFORE, _SECONDS, _DONE, _ROWS = range(7)
"""Rows of the table: the raw numbers now and before, the denominators of means now and before, the seconds between the
two, and what was made of them."""


@dataclass(slots=True)
class _Lot:
    """The columns of one collector, side by side."""

    start: int = 0
    count: int = 0
    t_ns: int = 0
    means: bool = False
    waiting: bool = False
    counters_at: tuple[int, ...] = ()
    means_at: tuple[int, ...] = ()

    @property
    def columns(self) -> slice:
        return slice(self.start, self.start + self.count)


class Rates:
    """Turns the cumulative readings of many collectors into finished values.

    A counter that went backwards (reset, wrap) and the first sight of a counter give NaN: missing, not 0.
    A mean over nothing (no I/O in the tick) is NaN as well.
    """

    def __init__(self) -> None:
        self._lots: dict[str, _Lot] = {}
        self._table: Floats = np.empty((_ROWS, 0))
        self._fresh: NDArray[np.bool_] = np.empty(0, dtype=np.bool_)
        self._counters: NDArray[np.intp] = np.empty(0, dtype=np.intp)
        self._means: NDArray[np.intp] = np.empty(0, dtype=np.intp)

    def take(self, source: str, t_ns: int, reading: Reading) -> None:
        """Takes one reading in; what it means is told by the next finish()."""
        lot = self._lots.get(source)
        if lot is None:
            lot = self._lots[source] = _Lot(start=len(self._fresh))
        if lot.waiting:
            self.finish()
        if len(reading.series) > lot.count:
            self._grow(lot, reading.series)
        at = lot.columns
        self._table[_NOW, at] = reading.values
        if lot.means:
            self._table[_UNDER, at] = reading.values if reading.weights is None else reading.weights
        self._table[_SECONDS, at] = (t_ns - lot.t_ns) / NS if lot.t_ns and t_ns > lot.t_ns else np.nan
        self._fresh[at] = lot.waiting = True
        lot.t_ns = t_ns

    def finish(self) -> Floats:
        """Finished values of all collectors in the order of their first reading, those of each in the order of its
        series: float64[series]. A view that the next call changes."""
        table, counters, means = self._table, self._counters, self._means
        if self._fresh.any():
            made = table[_NOW].copy()
            made[counters] = self._growth(counters) / table[_SECONDS, counters]
            over = table[_UNDER, means] - table[_UNDER_BEFORE, means]
            over[over <= 0] = np.nan
            made[means] = self._growth(means) / over
            np.copyto(table[_DONE], made, where=self._fresh)
            table[_BEFORE], table[_UNDER_BEFORE] = table[_NOW], table[_UNDER]
            self._fresh[:] = False
            for lot in self._lots.values():
                lot.waiting = False
        return np.asarray(table[_DONE])

    def columns(self, source: str) -> slice:
        """Where the values of a collector stand in those of finish()."""
        return self._lots[source].columns

    def drop(self, source: str) -> None:
        """Forgets a collector; its next reading is a first one."""
        lot = self._lots.pop(source, None)
        if lot is not None:
            self._lay_out()

    def step(self, t_ns: int, reading: Reading) -> Floats:
        """Finished values of a collector that stands alone, float64[len(reading.series)]."""
        self.take("", t_ns, reading)
        return self.finish().copy()

    def _growth(self, at: NDArray[np.intp]) -> Floats:
        delta: Floats = self._table[_NOW, at] - self._table[_BEFORE, at]
        delta[delta < 0] = np.nan
        return delta

    def _grow(self, lot: _Lot, series: Sequence[Series]) -> None:
        extra = [(i, series[i].kind) for i in range(lot.count, len(series))]
        lot.counters_at += tuple(i for i, kind in extra if kind == "counter")
        lot.means_at += tuple(i for i, kind in extra if kind == "mean")
        lot.means = bool(lot.means_at)
        self._lay_out(lot, len(series))

    def _lay_out(self, grown: _Lot | None = None, count: int = 0) -> None:
        """Gives every collector its columns anew, `grown` more of them than before."""
        old, fresh = self._table, self._fresh
        size = sum(lot.count for lot in self._lots.values()) + (count - grown.count if grown else 0)
        self._table, self._fresh = np.full((_ROWS, size), np.nan), np.zeros(size, dtype=np.bool_)
        start = 0
        for lot in self._lots.values():
            kept = slice(start, start + lot.count)
            self._table[:, kept], self._fresh[kept] = old[:, lot.columns], fresh[lot.columns]
            lot.start, lot.count = start, count if lot is grown else lot.count
            start += lot.count
        lots = self._lots.values()
        self._counters = np.array([lot.start + i for lot in lots for i in lot.counters_at], dtype=np.intp)
        self._means = np.array([lot.start + i for lot in lots for i in lot.means_at], dtype=np.intp)
