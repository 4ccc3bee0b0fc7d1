"""From parsed numbers to a Reading: columns, lists of series that only grow, and the arrays beside them."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np

from etio.core.event import HostEvent
from etio.core.frame import Floats, Reading
from etio.core.ports import Emits
from etio.core.series import Kind, Series

NAN = float("nan")
INF = float("inf")


@dataclass(frozen=True, slots=True)
class Column:
    """One series name of a collector, from which both its Series and its Emits are made.

    unit: of the finished value. labels: names of the labels that every series of this name carries.
    """

    name: str
    unit: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()

    def series(self, *values: str) -> Series:
        """The series of one thing; `values` in the order of `labels`."""
        return Series(self.name, self.unit, self.kind, tuple(sorted(zip(self.labels, values, strict=True))))


def emits(columns: Iterable[Column]) -> tuple[Emits, ...]:
    """What a CollectorSpec says about these columns."""
    return tuple(Emits(c.name, c.unit, c.labels, c.help) for c in columns)


def text(raw: bytes) -> str:
    """A name out of a kernel file as a label: UTF-8 where it is, replacement signs where not."""
    return raw.decode("utf-8", "replace")


def number(token: bytes) -> float:
    """The number a token spells, NaN where it spells none."""
    try:
        return float(token)
    except ValueError:
        return NAN


def numbers(tokens: Iterable[bytes]) -> list[float]:
    """The numbers of a line; a token that is none becomes NaN and spoils no other."""
    tokens = list(tokens)
    try:
        return list(map(float, tokens))
    except ValueError:
        return [number(t) for t in tokens]


def whole_lines(data: bytes) -> list[bytes]:
    """The lines that have their end; half a line at the end of a cut file would hold half a number.

    Only a newline ends one: the kernel leaves a carriage return in a name as it is.
    """
    return data.split(b"\n")[:-1]


def value_after(data: bytes, key: bytes) -> float:
    """First number behind `key` in its line; NaN where the key, the number or the end of the line is missing.

    >>> value_after(b"\\npgfault 12\\npgmaj", b"\\npgfault ")
    12.0
    """
    at = data.find(key)
    if at < 0:
        return NAN
    at += len(key)
    end = data.find(b"\n", at)
    if end < 0:
        return NAN
    try:
        return float(data[at:end])
    except ValueError:
        return number((data[at:end].split(None, 1) or [b""])[0])


def _array(values: list[float]) -> Floats:
    if INF in values or -INF in values:
        values = [NAN if v in (INF, -INF) else v for v in values]
    return np.array(values, dtype=np.float64)


class Fixed:
    """A constant list of series. One that this kernel never gives a value for is never announced."""

    def __init__(self, series: Sequence[Series]) -> None:
        self._all = tuple(series)
        self._unknown = set(range(len(self._all)))
        self._order: list[int] = []
        self.series: tuple[Series, ...] = ()  # replaced, not extended: readings under way keep theirs

    def reading(
        self, values: list[float], weights: list[float] | None = None, events: tuple[HostEvent, ...] = ()
    ) -> Reading:
        """The Reading of values (and cumulative denominators) in the order of the constant list."""
        fresh = [i for i in sorted(self._unknown) if isfinite(values[i])] if self._unknown else []
        if fresh:
            self._unknown.difference_update(fresh)
            self._order += fresh
            self.series += tuple(self._all[i] for i in fresh)
        below = None if weights is None else _array([weights[i] for i in self._order])
        return Reading(self.series, _array([values[i] for i in self._order]), below, events)


class Table:
    """Series of things that come and go: each thing has a row, a run of neighbouring places that it keeps for ever.

    start(), put() for each thing that is there, reading(). What was not put reads NaN.
    """

    def __init__(self) -> None:
        self.series: tuple[Series, ...] = ()  # replaced, not extended: readings under way keep theirs
        self._rows: dict[Hashable, int] = {}
        self._values: list[float] = []
        self._weights: list[float] = []
        self._weighted = False

    def start(self) -> None:
        """Forgets the values of the last reading."""
        self._values = [NAN] * len(self.series)
        if self._weighted:
            self._weights = [NAN] * len(self.series)

    def put(
        self, key: Hashable, make: Callable[[], Sequence[Series]], values: list[float],
        weights: list[float] | None = None,
    ) -> None:
        """Values of one thing; `make` names its series at first sight, as many as there are values."""
        at = self._rows.get(key)
        if at is None:
            at = self._add(key, make(), weights is not None)
        self._values[at:at + len(values)] = values
        if weights is not None:
            self._weights[at:at + len(weights)] = weights

    def _add(self, key: Hashable, fresh: Sequence[Series], weighted: bool) -> int:
        at = self._rows[key] = len(self.series)
        self.series += tuple(fresh)
        self._values.extend([NAN] * len(fresh))
        if weighted and not self._weighted:
            self._weighted = True
            self._weights = [NAN] * at
        if self._weighted:
            self._weights.extend([NAN] * len(fresh))
        return at

    def reading(self, events: tuple[HostEvent, ...] = ()) -> Reading:
        """What was put since start()."""
        return Reading(self.series, _array(self._values), _array(self._weights) if self._weighted else None, events)
