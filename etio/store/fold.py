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


def samples(t_ns: Times, place: NDArray[np.intp], value: NDArray[Any]) -> Stretches:
    """Single samples as stretches of one."""
    wide = value.astype(np.float64)
    return Stretches(t_ns, place, wide, wide, wide, np.ones(len(wide)))


@dataclass(slots=True)
class Fold:
    """Steps of `step_ns` from `start_ns` on, `steps` of them, for `series` series. Arrays are [steps, series]."""

    start_ns: int
    step_ns: int
    steps: int
    series: int
    low: Floats = field(init=False)
    high: Floats = field(init=False)
    total: Floats = field(init=False)
    count: Floats = field(init=False)

    def __post_init__(self) -> None:
        shape = self.steps * self.series
        self.low, self.high = np.full(shape, np.inf), np.full(shape, -np.inf)
        self.total, self.count = np.zeros(shape), np.zeros(shape)

    def add(self, part: Stretches) -> None:
        """Takes stretches in; those outside the steps are left out."""
        step = (part.t_ns - self.start_ns) // self.step_ns
        inside = (step >= 0) & (step < self.steps)
        cell = (step[inside] * self.series + part.place[inside]).astype(np.intp)
        count = part.count[inside]
        np.minimum.at(self.low, cell, part.low[inside])
        np.maximum.at(self.high, cell, part.high[inside])
        self.total += np.bincount(cell, part.mean[inside] * count, minlength=len(self.total))
        self.count += np.bincount(cell, count, minlength=len(self.count))

    def result(self) -> tuple[Floats, Floats, Floats]:
        """(low, mean, high), float64[steps, series] each, NaN where nothing was."""
        empty = self.count == 0
        low, high = np.where(empty, np.nan, self.low), np.where(empty, np.nan, self.high)
        mean = np.divide(self.total, self.count, out=np.full(len(empty), np.nan), where=~empty)
        shape = (self.steps, self.series)
        return low.reshape(shape), np.clip(mean, low, high).reshape(shape), high.reshape(shape)
