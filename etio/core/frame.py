"""What a collector hands over, and what becomes of it: one frame a tick."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from etio.core.event import HostEvent
from etio.core.series import Series

Floats = NDArray[np.float64]
NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Reading:
    """What a collector returns from one collect().

    series: the collector's own list, append-only over its life (a vanished thing keeps its place and reads NaN).
    values: float64[len(series)], raw: gauges in the unit of the series, counters and means cumulative; NaN = no value.
    weights: float64[len(series)], the cumulative denominators of series of kind "mean"; None where there are none.
    events: what happened since the last reading.
    """

    series: Sequence[Series]
    values: Floats
    weights: Floats | None = None
    events: tuple[HostEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class Frame:
    """One tick of every series.

    t_ns: wall-clock nanoseconds of the tick.
    series: the catalogue at that tick; position i is the same series for the life of the process.
    values: float64[len(series)] in the unit of each series, rounded to float32 (what the store keeps, so that a
        replay of stored frames sees the very same numbers); NaN = no value.
    """

    t_ns: int
    series: tuple[Series, ...]
    values: Floats
