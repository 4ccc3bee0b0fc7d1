"""What a series usually does at each hour of the day or week."""

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from etio.core.errors import Broken
from etio.core.frame import NS

HOUR_NS = 3600 * NS
DAY, WEEK = 24, 168
"""Hours of the two periods."""


@dataclass(frozen=True, slots=True)
class Zone:
    """How far the local time of a host is ahead of UTC, over some weeks: a table, so that nobody here reads a clock.

    name: such as "Europe/Berlin". since_ns: moments, ascending, from which offset_s (seconds, one for each) counts;
    before the first one the first offset does.
    """

    name: str = "UTC"
    since_ns: tuple[int, ...] = (0,)
    offset_s: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        if not 0 < len(self.since_ns) == len(self.offset_s) or list(self.since_ns) != sorted(set(self.since_ns)):
            raise Broken(f"time zone {self.name}: expected ascending moments and an offset for each")
        if max(map(abs, self.offset_s)) > 2 * 86_400:
            raise Broken(f"time zone {self.name}: an offset of more than two days")

    def local(self, t_ns: int) -> int:
        """What the clock on the wall says at a moment, as nanoseconds since its own midnight of 1 January 1970.

        >>> zone = Zone("x", (0, 100 * HOUR_NS), (3600, 7200))
        >>> [zone.local(t * HOUR_NS) // HOUR_NS for t in (98, 99, 100, 101)]
        [99, 100, 102, 103]
        """
        return t_ns + NS * self.offset_s[max(bisect_right(self.since_ns, t_ns) - 1, 0)]


UTC = Zone()


@dataclass(frozen=True, slots=True)
class Season:
    """The expected range of one series for each hour of its period.

    key: Series.key. low, middle, high: float32[hours], hours = 24 or 168, in the unit of the series; slot 0 is midnight
    of the zone (of Monday, for a week). explained: share of the variance of hourly means explained by the season, 0..1.
    made_ns: newest sample that it was made of.
    """

    key: str
    low: NDArray[np.float32]
    middle: NDArray[np.float32]
    high: NDArray[np.float32]
    explained: float
    made_ns: int
    zone: Zone = UTC

    def __post_init__(self) -> None:
        hours = len(self.middle)
        shapes = {a.shape for a in (self.low, self.middle, self.high)}
        kinds = {a.dtype for a in (self.low, self.middle, self.high)}
        if hours not in (DAY, WEEK) or shapes != {(hours,)} or kinds != {np.dtype(np.float32)}:
            raise Broken(f"season of {self.key}: expected three float32 arrays of {DAY} or {WEEK}")
        if not (np.isfinite(self.low) & np.isfinite(self.high)).all() or not (
                (self.low <= self.middle) & (self.middle <= self.high)).all():
            raise Broken(f"season of {self.key}: low <= middle <= high must hold everywhere")

    def slot(self, t_ns: int) -> int:
        """Which hour of its period a moment lies in, by the clock on the wall."""
        return slot(self.zone.local(t_ns), len(self.middle))


def slot(t_ns: int, hours: int) -> int:
    """Which hour of a period of that many hours a moment lies in; both in the same zone, see Zone.local.

    >>> slot(0, DAY), slot(0, WEEK), slot(5 * HOUR_NS, DAY), slot(4 * DAY * HOUR_NS, WEEK)
    (0, 72, 5, 0)
    """
    return int(t_ns // HOUR_NS + (3 * DAY if hours == WEEK else 0)) % hours
