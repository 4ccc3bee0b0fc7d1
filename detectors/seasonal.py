"""Is this usual for the hour? The range that weeks of this host promise for each hour of the day or the week.

The ranges are fitted elsewhere (`detectors.seasonal_fit`, in a process of its own) and handed over; here a value is
held against that of its hour, by the clock on the host's wall. A series without a season, or whose season is too old,
has no score: before two whole periods were seen nothing is said. An excursion that is normal for its hour lies within
the band, so the engine does not take it for an anomaly, and a peak that does not come lies below it.

A score is the distance from the middle over that of the edge on this side; 1.0 = at the edge.

Memory: 2 kB per series with a season, at most `series` of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detectors.columns import Ints, part
from detectors.keeping import Keeping
from etio.core.errors import Broken
from etio.core.frame import NS, Floats, Frame
from etio.core.ports import DetectorSpec
from etio.core.score import Band, Scores, unknown
from etio.core.season import UTC, WEEK, Season, Zone, slot
from etio.core.series import Series

DAY_NS = 86_400 * NS
LARGEST = 1e6
LEAST = 1e-9


@dataclass(frozen=True, slots=True)
class Config:
    """series: most series with a season. oldest_days: a season that was not renewed for so long is dropped."""

    series: int = 500
    oldest_days: float = 4.0

    def __post_init__(self) -> None:
        if self.series < 1 or self.oldest_days <= 0:
            raise ValueError("series must be at least 1, oldest_days positive")


class Seasonal(Keeping):
    """Scores the series of a frame that have a season.

    >>> from etio.core.series import Series
    >>> hours = np.arange(24, dtype=np.float32)
    >>> one = Seasonal(Config())
    >>> one.expect([Season("x", hours, hours + 1, hours + 2, 0.9, 0)])
    >>> frame = Frame(5 * 3600 * NS, (Series("x", "1"), Series("y", "1")), np.array([8.0, 8.0]))
    >>> one.step(frame).values, float(one.band().high[0])
    (array([ 2., nan]), 7.0)
    """

    name = "seasonal"

    def __init__(self, config: Config) -> None:
        self._config = config
        self._reset()

    def _reset(self) -> None:
        self._seasons: dict[str, Season] = {}
        self._zone = UTC
        self._catalogue: tuple[Series, ...] = ()
        self._table = np.empty((3, WEEK, 0), dtype=np.float32)
        self._made = np.empty(0, dtype=np.int64)
        self._at: Ints = np.empty(0, dtype=np.intp)
        self._band: Band | None = None

    def expect(self, seasons: Sequence[Season]) -> None:
        """Takes new seasons in, in place of older ones of the same series. Those of another time zone are dropped:
        the host's was changed, and their hours are no hours of its day any more."""
        self._zone = max(seasons, key=lambda one: one.made_ns).zone if seasons else self._zone
        self._seasons |= {one.key: one for one in seasons}
        self._seasons = {key: one for key, one in self._seasons.items() if one.zone.name == self._zone.name}
        for key in list(self._seasons)[:-self._config.series]:
            del self._seasons[key]
        self._lay_out()

    def season(self, key: str) -> Season | None:
        """The season of the series with this key, or None."""
        return self._seasons.get(key)

    def step(self, frame: Frame) -> Scores:
        """float64[n] over the frame's own series."""
        self._grow(frame.series)
        values = unknown(len(frame.series))
        self._band = None
        if len(self._at):
            low, middle, high = (a.astype(np.float64) for a in self._table[:, slot(self._zone.local(frame.t_ns), WEEK)])
            fresh = np.abs(frame.t_ns - self._made) <= self._config.oldest_days * DAY_NS
            x = np.where(fresh, frame.values[self._at], np.nan)
            away = np.where(x >= middle, (x - middle) / np.maximum(high - middle, LEAST),
                            (middle - x) / np.maximum(middle - low, LEAST))
            values[self._at] = np.where(np.isfinite(x), np.minimum(away, LARGEST), np.nan)
            self._band = self._spread(len(frame.series), fresh, (low, middle, high))
        return Scores(self.name, frame.series, values)

    def _spread(self, n: int, fresh: np.ndarray[Any, np.dtype[np.bool_]], edges: tuple[Floats, ...]) -> Band:
        parts = []
        for edge in edges:
            whole = unknown(n)
            whole[self._at] = np.where(fresh, edge, np.nan)
            parts.append(whole)
        return Band(*parts)

    def band(self) -> Band | None:
        """The range of the hour of each series of the last frame that has a season; None where none has."""
        return self._band

    def _grow(self, series: tuple[Series, ...]) -> None:
        if len(series) > len(self._catalogue):
            self._catalogue = series
            if self._seasons:
                self._lay_out()

    def _lay_out(self) -> None:
        """The ranges as arrays over the hours of a week, for the series of the catalogue."""
        found = [(i, self._seasons[s.key]) for i, s in enumerate(self._catalogue) if s.key in self._seasons]
        self._at = np.array([i for i, _ in found], dtype=np.intp)
        self._made = np.array([one.made_ns for _, one in found], dtype=np.int64)
        self._table = np.empty((3, WEEK, len(found)), dtype=np.float32)
        for k, (_, one) in enumerate(found):
            for row, edge in enumerate((one.low, one.middle, one.high)):
                self._table[row, :, k] = np.resize(edge, WEEK)

    def snapshot(self) -> Mapping[str, Any]:
        """The seasons."""
        kept = list(self._seasons.values())
        return {"keys": [one.key for one in kept], "explained": [float(one.explained) for one in kept],
                "made_ns": [int(one.made_ns) for one in kept],
                "zone": {"name": self._zone.name, "since_ns": list(self._zone.since_ns),
                         "offset_s": list(self._zone.offset_s)},
                "ranges": [np.stack([one.low, one.middle, one.high]) for one in kept]}

    def _restore(self, state: Mapping[str, Any]) -> None:
        columns = [part(state, name, list) for name in ("keys", "explained", "made_ns", "ranges")]
        if len({len(column) for column in columns}) != 1 or len(columns[0]) > self._config.series:
            raise Broken("detector state: seasons: columns of different length")
        zone, found = _zone_of(state), []
        for key, explained, made_ns, ranges in zip(*columns, strict=True):
            if not (isinstance(key, str) and isinstance(explained, float) and isinstance(made_ns, int)
                    and isinstance(ranges, np.ndarray) and ranges.ndim == 2 and len(ranges) == 3):
                raise Broken("detector state: seasons: a season of another form")
            found.append(Season(key, ranges[0], ranges[1], ranges[2], explained, made_ns, zone))
        self._seasons, self._zone = {one.key: one for one in found}, zone


def _zone_of(state: Mapping[str, Any]) -> Zone:
    """The zone of a snapshot; UTC in those of earlier versions, which knew no other. Raises Broken."""
    if "zone" not in state:
        return UTC
    saved = part(state, "zone", dict)
    name, since_ns, offset_s = (part(saved, *one) for one in (("name", str), ("since_ns", list), ("offset_s", list)))
    if not all(type(x) is int for x in (*since_ns, *offset_s)):
        raise Broken("detector state: seasons: a time zone of another form")
    return Zone(name, tuple(since_ns), tuple(offset_s))


DETECTOR = DetectorSpec(
    name="seasonal",
    config=Config,
    build=Seasonal,
    scope="series",
    help="expected range of each series for the hour of the day and the week, fitted to weeks of this host",
)
