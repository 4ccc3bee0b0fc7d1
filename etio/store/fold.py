"""Many stretches of samples folded into equal steps of time: smallest, mean and largest value per step and series."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etio.core.frame import Floats

Times = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Stretches:
    """Aligned columns: t_ns int64 (start), place intp (which series), low, mean, high float64, count float64."""

    t_ns: Times
    place: NDArray[np.intp]
    low: Floats
    mean: Floats
    high: Floats
    count: Floats

    def at(self, places: NDArray[np.intp]) -> "Stretches":
        """The same with each place looked up in `places`."""
        return Stretches(self.t_ns, places[self.place], self.low, self.mean, self.high, self.count)


def samples(t_ns: Times, place: NDArray[np.intp], value: NDArray[Any]) -> Stretches:
    """Single samples as stretches of one."""
    wide = value.astype(np.float64)
    return Stretches(t_ns, place, wide, wide, wide, np.ones(len(wide)))


@dataclass(slots=True)
class Means:
    """Steps of `step_ns` from `start_ns` on, `steps` of them, for `series` series."""

    start_ns: int
    step_ns: int
    steps: int
    series: int
    _total: Floats = field(init=False)
    _count: Floats = field(init=False)

    def __post_init__(self) -> None:
        self._total, self._count = np.zeros(self.steps * self.series), np.zeros(self.steps * self.series)

    def cells(self, part: Stretches) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """(cell of each stretch that lies inside, which ones do)."""
        step = (part.t_ns - self.start_ns) // self.step_ns
        inside = (step >= 0) & (step < self.steps)
        return (step[inside] * self.series + part.place[inside]).astype(np.intp), inside

    def add(self, part: Stretches) -> None:
        """Takes stretches in; those outside the steps are left out."""
        cell, inside = self.cells(part)
        np.add.at(self._total, cell, part.mean[inside] * part.count[inside])
        np.add.at(self._count, cell, part.count[inside])

    def means(self) -> Floats:
        """float64[steps, series], NaN where nothing was."""
        there = self._count > 0
        np.divide(self._total, self._count, out=self._total, where=there)
        self._total[~there] = np.nan
        return self._total.reshape(self.steps, self.series)


@dataclass(slots=True)
class Extremes(Means):
    """Means, and the smallest and largest value of each step."""

    _low: Floats = field(init=False)
    _high: Floats = field(init=False)

    def __post_init__(self) -> None:
        Means.__post_init__(self)
        self._low, self._high = np.full(len(self._count), np.inf), np.full(len(self._count), -np.inf)

    def add(self, part: Stretches) -> None:
        """Takes stretches in; those outside the steps are left out."""
        Means.add(self, part)
        cell, inside = self.cells(part)
        np.minimum.at(self._low, cell, part.low[inside])
        np.maximum.at(self._high, cell, part.high[inside])

    def result(self) -> tuple[Floats, Floats, Floats]:
        """(low, mean, high), float64[steps, series] each, NaN where nothing was."""
        mean = self.means()
        low, high = (np.where(np.isnan(mean), np.nan, a.reshape(mean.shape)) for a in (self._low, self._high))
        return low, np.clip(mean, low, high), high
