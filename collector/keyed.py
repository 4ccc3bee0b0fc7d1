"""Whole files of named numbers in bulk: planned once for a layout of names, then one conversion and one sum a reading.

A kernel has hundreds of counters. Looking each up by name costs a microsecond a piece; here the names are compared as
one list, and the numbers are turned into one array, taken by position and added up by numpy.
"""

from abc import abstractmethod
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from collector.files import File
from collector.late import LateCollector
from collector.table import NAN, number, numbers, whole_lines
from etio.core.errors import Broken, NoData
from etio.core.event import HostEvent
from etio.core.frame import Floats, Reading
from etio.core.series import Series

L = TypeVar("L")
Keyed = tuple[list[bytes], Floats]
"""Names, and float64[len(names)] beside them."""
SANE = 1e30
"""No counter of 64 bits comes near; a sum of such numbers never overflows."""


@dataclass(frozen=True, slots=True)
class Item:
    """One series: the raw numbers at the places `take` added up, times `scale`; `weight` is the place of the cumulative
    denominator of a mean."""

    series: Series
    take: tuple[int, ...]
    scale: float = 1.0
    weight: int | None = None


class Bulk(Generic[L]):
    """Makes readings out of raw numbers. `plan` says what a layout means; it is asked again when the layout changes.

    A series keeps its place for ever; what the layout of a reading does not have is NaN there.
    """

    def __init__(self, plan: Callable[[L], Iterable[Item]]) -> None:
        self._plan = plan
        self._layout: L | None = None
        self._places: dict[Series, int] = {}
        self.series: tuple[Series, ...] = ()  # replaced, not extended: readings under way keep theirs
        self._mean = False
        self._at = self._take = self._starts = self._weights = np.empty(0, dtype=np.intp)
        self._weighted = self._weights
        self._scale: Floats = np.empty(0)

    def reading(self, layout: L, raw: Floats, events: tuple[HostEvent, ...] = ()) -> Reading:
        """The Reading of raw numbers in the order that `layout` tells."""
        if layout is not self._layout and layout != self._layout:
            self._replan(layout)
        values = np.full(len(self.series), NAN)
        if len(self._take):
            values[self._at] = np.add.reduceat(raw[self._take], self._starts) * self._scale
        weights = None
        if self._mean:
            weights = np.zeros(len(self.series))
            weights[self._weighted] = raw[self._weights]
        return Reading(self.series, values, weights, events)

    def _replan(self, layout: L) -> None:
        first: dict[Series, Item] = {}
        for item in self._plan(layout):
            first.setdefault(item.series, item)
        items = list(first.values())
        for item in items:
            self._places.setdefault(item.series, len(self._places))
        self.series = tuple(self._places)
        self._mean = any(s.kind == "mean" for s in self.series)
        self._at = _places(self._places[i.series] for i in items)
        self._take = _places(p for i in items for p in i.take)
        self._starts = np.cumsum([0, *(len(i.take) for i in items)], dtype=np.intp)[:-1]
        self._scale = np.array([i.scale for i in items], dtype=np.float64)
        self._weighted = _places(self._places[i.series] for i in items if i.weight is not None)
        self._weights = _places(i.weight for i in items if i.weight is not None)
        self._layout = layout


def _places(numbers_: Iterable[int]) -> "np.ndarray[Any, np.dtype[np.intp]]":
    return np.fromiter(numbers_, dtype=np.intp)


def array(tokens: Sequence[bytes]) -> Floats:
    """float64[len(tokens)], NaN for a token that is no number within SANE."""
    try:
        values = np.array(list(map(float, tokens)), dtype=np.float64)  # half the cost of numpy's own conversion
    except ValueError:
        values = np.array(numbers(tokens), dtype=np.float64)
    if len(values) and not np.abs(values).max() < SANE:
        values[~(np.abs(values) < SANE)] = NAN
    return values


def parse_pairs(data: bytes) -> Keyed:
    """Lines of a name and a number, such as /proc/vmstat; a line of another form is left out.

    Raises NoData for an empty file, Broken where no line is of this form.
    """
    if not data:
        raise NoData("empty")
    words = data.split()
    if data.endswith(b"\n") and len(words) == 2 * data.count(b"\n"):
        try:
            values = np.array(list(map(float, words[1::2])), dtype=np.float64)
        except ValueError:
            return parse_pairs_slowly(data)
        if len(values) and np.abs(values).max() < SANE:  # not so for NaN, either
            return words[::2], values
    return parse_pairs_slowly(data)


def parse_pairs_slowly(data: bytes) -> Keyed:
    """As parse_pairs(), line by line. Raises Broken."""
    found: dict[bytes, float] = {}
    for line in whole_lines(data):
        fields = line.split()
        value = number(fields[1]) if len(fields) == 2 else NAN
        if abs(value) < SANE:
            found.setdefault(fields[0], value)
    if not found:
        raise Broken("no line of a name and a number")
    return list(found), np.array(list(found.values()), dtype=np.float64)


class Unchanged:
    """A parser that remembers what it made of the text before: some files seldom change."""

    def __init__(self, parser: Callable[[bytes], Keyed]) -> None:
        self._parser = parser
        self._data = b""
        self._made: Keyed | None = None

    def __call__(self, data: bytes) -> Keyed:
        """What the parser makes of it; the very same objects where nothing changed."""
        if self._made is None or data != self._data:
            self._made = self._parser(data)
            self._data = data
        return self._made


def first_places(names: Sequence[Hashable]) -> dict[Any, int]:
    """Where each name stands first."""
    place: dict[Any, int] = {}
    for i, name in enumerate(names):
        place.setdefault(name, i)
    return place


class KeyedFile(LateCollector):
    """Implements etio.core.ports.Collector for one file of names and numbers."""

    path: ClassVar[str]

    def __init__(self, config: Any) -> None:
        self._bulk = Bulk(self.plan)
        self._file: File | None = None

    def open(self, root: Path) -> None:
        """Raises NoData or Broken, naming the path."""
        self._file = File(root / self.path)

    def grab(self, t_ns: int) -> Callable[[], Reading]:
        """See etio.core.ports.Deferring. Raises NoData or Broken, naming the path."""
        if self._file is None:
            raise NoData(f"{self.path}: not open")
        return partial(self._made, self._file, self._file.read())

    def _made(self, file: File, data: bytes) -> Reading:
        return self._bulk.reading(*file.made(data, self.parse))

    @staticmethod
    @abstractmethod
    def parse(data: bytes) -> Keyed:
        """Names and numbers. Raises NoData or Broken."""

    @staticmethod
    @abstractmethod
    def plan(names: list[bytes]) -> Iterable[Item]:
        """The series these names make."""

    def close(self) -> None:
        """May be called twice."""
        if self._file is not None:
            self._file.close()
            self._file = None
