"""From raw readings of many collectors to one frame a tick."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from etio.core.frame import Frame, Reading
from etio.core.rates import Rates
from etio.core.series import Series


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
    places: NDArray[np.intp]
    t_ns: int
    max_age_ns: int


class FrameBuilder:
    """Collects the latest finished values of every collector and cuts a frame when asked.

    A collector slower than the tick keeps its last values in the frames until they are older than its `max_age_ns`;
    then they go missing.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self._rates = Rates()
        self._sources: dict[str, _Source] = {}
        self._places: NDArray[np.intp] | None = None
        """Of all finished values, in their order; None when a source has come, grown or gone."""

    def add(self, collector: str, t_ns: int, reading: Reading, max_age_ns: int) -> None:
        """Takes one reading in."""
        source = self._sources.get(collector)
        if source is None:
            source = self._sources[collector] = _Source(np.empty(0, dtype=np.intp), t_ns, max_age_ns)
        known = len(source.places)
        if len(reading.series) > known:
            source.places = np.concatenate([source.places, self.catalogue.places(reading.series[known:])])
            self._places = None
        self._rates.take(collector, t_ns, reading)
        source.t_ns, source.max_age_ns = t_ns, max_age_ns

    def drop(self, collector: str) -> None:
        """Forgets a collector (it failed or was shed): its series go missing at once."""
        if self._sources.pop(collector, None) is not None:
            self._rates.drop(collector)
            self._places = None

    def build(self, t_ns: int) -> Frame:
        """The frame of this tick."""
        done = self._rates.finish()
        if self._places is None:
            empty = np.empty(0, dtype=np.intp)
            self._places = np.concatenate([empty, *(source.places for source in self._sources.values())])
        places = self._places
        old = [name for name, source in self._sources.items() if t_ns - source.t_ns > source.max_age_ns]
        if old:
            young = np.ones(len(done), dtype=np.bool_)
            for name in old:
                young[self._rates.columns(name)] = False
            done, places = done[young], places[young]
        rounded = np.full(len(self.catalogue.series) + 1, np.nan, dtype=np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            rounded[places] = done  # what the catalogue has refused (-1) goes to the place beyond the last
        rounded[np.isinf(rounded)] = np.nan
        return Frame(t_ns, self.catalogue.series, rounded[:-1].astype(np.float64))
