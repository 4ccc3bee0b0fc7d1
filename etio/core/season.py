"""What a series usually does at each hour of the day or week."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from etio.core.errors import Broken
from etio.core.frame import NS

HOUR_NS = 3600 * NS
DAY, WEEK = 24, 168
"""Hours of the two periods."""


@dataclass(frozen=True, slots=True)
class Season:
    """The expected range of one series for each hour of its period.

    key: Series.key. low, middle, high: float32[hours], hours = 24 or 168, in the unit of the series; slot 0 is midnight
    UTC (of Monday, for a week). explained: share of the variance of hourly means that the season explains, 0..1.
    made_ns: newest sample that it was made of.
    """

    key: str
    low: NDArray[np.float32]
    middle: NDArray[np.float32]
    high: NDArray[np.float32]
    explained: float
    made_ns: int

    def __post_init__(self) -> None:
        hours = len(self.middle)
        shapes = {a.shape for a in (self.low, self.middle, self.high)}
        kinds = {a.dtype for a in (self.low, self.middle, self.high)}
        if hours not in (DAY, WEEK) or shapes != {(hours,)} or kinds != {np.dtype(np.float32)}:
            raise Broken(f"season of {self.key}: expected three float32 arrays of {DAY} or {WEEK}")
        if not (np.isfinite(self.low) & np.isfinite(self.high)).all() or not (
                (self.low <= self.middle) & (self.middle <= self.high)).all():
            raise Broken(f"season of {self.key}: low <= middle <= high must hold everywhere")


def slot(t_ns: int, hours: int) -> int:
    """Which hour of a period of that many hours a moment lies in.

    >>> slot(0, DAY), slot(0, WEEK), slot(5 * HOUR_NS, DAY), slot(4 * DAY * HOUR_NS, WEEK)
    (0, 72, 5, 0)
    """
    return int(t_ns // HOUR_NS + (3 * DAY if hours == WEEK else 0)) % hours
