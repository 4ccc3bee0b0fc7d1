"""From raw readings of many collectors to one frame a tick. Rates are made here and nowhere else."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

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


class Rates:
    """Turns the cumulative readings of one collector into finished values.

    A counter that went backwards (reset, wrap) and the first sight of a counter give NaN: missing, not 0.
    A mean over nothing (no I/O in the tick) is NaN as well.
    """

    def __init__(self) -> None:
        self._t_ns = 0
        self._values: Floats = np.empty(0)
        self._weights: Floats = np.empty(0)
        self._counters: NDArray[np.intp] = np.empty(0, dtype=np.intp)
        self._means: NDArray[np.intp] = np.empty(0, dtype=np.intp)

    def step(self, t_ns: int, reading: Reading) -> Floats:
        """Finished values, float64[len(reading.series)]."""
        if len(reading.series) > len(self._values):
            self._grow(reading.series)
        raw = np.asarray(reading.values, dtype=np.float64)
        out = raw.copy()
        if len(self._counters):
            seconds = (t_ns - self._t_ns) / NS if self._t_ns and t_ns > self._t_ns else np.nan
            out[self._counters] = self._growth(raw, self._counters) / seconds
        if len(self._means):
            weights = raw if reading.weights is None else np.asarray(reading.weights, dtype=np.float64)
            now = weights[self._means]
            over = now - self._weights
            over[over <= 0] = np.nan
            self._weights = now
            out[self._means] = self._growth(raw, self._means) / over
        self._t_ns, self._values = t_ns, raw
        return out

    def _growth(self, values: Floats, at: NDArray[np.intp]) -> Floats:
        delta = values[at] - self._values[at]
        delta[delta < 0] = np.nan
        return delta

    def _grow(self, series: Sequence[Series]) -> None:
        known = len(self._values)
        extra = series[known:]
        counters = [i for i, s in enumerate(extra, known) if s.kind == "counter"]
        means = [i for i, s in enumerate(extra, known) if s.kind == "mean"]
        self._values = np.concatenate([self._values, np.full(len(extra), np.nan)])
        self._weights = np.concatenate([self._weights, np.full(len(means), np.nan)])
        self._counters = np.concatenate([self._counters, np.array(counters, dtype=np.intp)])
        self._means = np.concatenate([self._means, np.array(means, dtype=np.intp)])


@dataclass(slots=True)
class Catalogue:
    """Every series ever seen by this process, in order of first sight, at most `limit` of them.

    What the limit left out is counted in `refused` by series name, to be told and never hidden.
    """

    limit: int = 20_000
    series: tuple[Series, ...] = ()
    refused: Counter[str] = field(default_factory=Counter)
    _index: dict[Series, int] = field(default_factory=dict)

    def places(self, series: Sequence[Series]) -> NDArray[np.intp]:
        """Position of each series in the catalogue; -1 for what the limit refused. Registers new ones."""
        new: list[Series] = []
        places = np.empty(len(series), dtype=np.intp)
        for i, one in enumerate(series):
            at = self._index.get(one)
            if at is None:
                if len(self._index) >= self.limit:
                    self.refused[one.name] += 1
                    at = -1
                else:
                    at = self._index[one] = len(self._index)
                    new.append(one)
            places[i] = at
        if new:
            self.series += tuple(new)
        return places


@dataclass(slots=True)
class _Source:
    rates: Rates
    places: NDArray[np.intp]
    values: Floats
    t_ns: int
    max_age_ns: int
    some: NDArray[np.intp] | None = None
    """Which of the values have a place, where the catalogue refused others."""


class FrameBuilder:
    """Collects the latest finished values of every collector and cuts a frame when asked.

    A collector slower than the tick keeps its last values in the frames until they are older than its `max_age_ns`;
    then they go missing.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self._sources: dict[str, _Source] = {}

    def add(self, collector: str, t_ns: int, reading: Reading, max_age_ns: int) -> None:
        """Takes one reading in."""
        source = self._sources.get(collector)
        if source is None:
            source = _Source(Rates(), np.empty(0, dtype=np.intp), np.empty(0), t_ns, max_age_ns)
            self._sources[collector] = source
        known = len(source.places)
        if len(reading.series) > known:
            fresh = self.catalogue.places(reading.series[known:])
            source.places = np.concatenate([source.places, fresh])
            source.some = np.flatnonzero(source.places >= 0) if (source.places < 0).any() else None
        source.values = source.rates.step(t_ns, reading)
        source.t_ns, source.max_age_ns = t_ns, max_age_ns

    def drop(self, collector: str) -> None:
        """Forgets a collector (it failed or was shed): its series go missing at once."""
        self._sources.pop(collector, None)

    def build(self, t_ns: int) -> Frame:
        """The frame of this tick."""
        values = np.full(len(self.catalogue.series), np.nan)
        for source in self._sources.values():
            if t_ns - source.t_ns <= source.max_age_ns:
                if source.some is None:
                    values[source.places] = source.values
                else:
                    values[source.places[source.some]] = source.values[source.some]
        with np.errstate(over="ignore", invalid="ignore"):
            rounded = values.astype(np.float32).astype(np.float64)
        rounded[np.isinf(rounded)] = np.nan
        return Frame(t_ns, self.catalogue.series, rounded)
