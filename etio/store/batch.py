"""Frames to the columns that DuckDB takes, and the numbers that stand for series within one day."""

import json
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from etio.core.frame import Frame
from etio.core.series import Kind, Labels, Series

Ids = NDArray[np.uint32]
SeriesRow = tuple[int, int, str, str, str, str, str]


@dataclass(frozen=True, slots=True)
class Columns:
    """A batch of samples, three aligned columns: uint32, uint32, float32; samples without a value are left out."""

    series: Ids
    tick: Ids
    value: NDArray[np.float32]


@dataclass(slots=True)
class Dictionary:
    """Numbers of series within one day file, dense and in order of first sight.

    rows: (id, first tick, key, name, unit, kind, labels as JSON) of those not yet in the file.
    """

    rows: list[SeriesRow] = field(default_factory=list)
    _ids: dict[Series, int] = field(default_factory=dict)
    _last: tuple[Series, ...] = ()
    _places: Ids = field(default_factory=lambda: np.empty(0, dtype=np.uint32))

    def load(self, known: Sequence[Series]) -> None:
        """Starts from what the file already holds, in order of id."""
        self._ids = {series: i for i, series in enumerate(known)}
        self.rows, self._last, self._places = [], (), np.empty(0, dtype=np.uint32)

    def ids(self, series: tuple[Series, ...], tick: int) -> Ids:
        """Number of each series, new ones included."""
        if series is self._last:
            return self._places
        known = len(self._last)
        grown = len(series) >= known and all(map(operator.is_, self._last, series))
        start = known if grown else 0
        fresh = np.fromiter((self._id(s, tick) for s in series[start:]), dtype=np.uint32)
        self._places = np.concatenate([self._places[:start], fresh])
        self._last = series
        return self._places

    def _id(self, series: Series, tick: int) -> int:
        number = self._ids.get(series)
        if number is None:
            number = self._ids[series] = len(self._ids)
            self.rows.append((number, tick, *identity(series)))
        return number


def identity(series: Series) -> tuple[str, str, str, str, str]:
    """(key, name, unit, kind, labels as JSON) as the tables keep them."""
    labels = json.dumps(dict(series.labels), ensure_ascii=False)
    return storable(series.key), storable(series.name), series.unit, series.kind, storable(labels)


def storable(text: str) -> str:
    """Text that UTF-8 can carry: what came undecodable from the kernel (lone surrogates) becomes "?"."""
    return text.encode("utf-8", "replace").decode()


def revived(name: str, unit: str, kind: Kind, labels_json: str) -> Series:
    """The series that identity() was made of."""
    labels: Labels = tuple(sorted(json.loads(labels_json).items()))
    return Series(name, unit, kind, labels)


def columns(frames: Sequence[Frame], first_tick: int, dictionary: Dictionary) -> Columns:
    """The samples of consecutive frames; frame i becomes tick first_tick + i."""
    series, ticks, values = [], [], []
    for tick, frame in enumerate(frames, first_tick):
        ids = dictionary.ids(frame.series, tick)
        with np.errstate(over="ignore"):
            narrow = frame.values.astype(np.float32)
        there = ~np.isnan(narrow)
        value = narrow[there]
        series.append(ids[there])
        values.append(value)
        ticks.append(np.full(len(value), tick, dtype=np.uint32))
    return Columns(np.concatenate(series), np.concatenate(ticks), np.concatenate(values))
