"""Samples and roll-ups of one day as arrays, in slices that keep the memory small."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etio.core.frame import Floats
from etio.core.series import Series
from etio.store import days
from etio.store.batch import revived
from etio.store.blocks import Block, Wanted
from etio.store.daywriter import rollup_sql
from etio.store.duck import duckdb
from etio.store.fold import Stretches, Times

ROWS_AT_ONCE = 250_000
Span = tuple[int, int]
"""(start_ns, end_ns), both included."""


@dataclass(frozen=True, slots=True)
class Day:
    """One day on a cursor. raw, rollup: which of its files are attached."""

    cursor: duckdb.DuckDBPyConnection
    day: str
    raw: bool
    rollup: bool

    def catalogue(self, wanted: Wanted) -> dict[int, Series]:
        """The day's series by number, in order of first sight."""
        source = days.raw_name(self.day) if self.raw else days.rollup_name(self.day)
        column, values = ("key", wanted.keys) if wanted.keys is not None else ("name", wanted.names)
        where = "" if values is None else f"WHERE {column} IN (SELECT unnest(?))"
        rows = self.cursor.execute(f"SELECT id, name, unit, kind, labels FROM {source}.series {where} ORDER BY id",
                                   [] if values is None else [list(values)]).fetchall()
        return {row[0]: revived(*row[1:]) for row in rows}

    def moments(self, span: Span) -> tuple[NDArray[np.int64], Times]:
        """(tick, t_ns) of the frames in the span, by tick."""
        got = self._arrays(f"SELECT tick, t_ns FROM {days.raw_name(self.day)}.frames"
                           f" WHERE t_ns BETWEEN {span[0]} AND {span[1]} ORDER BY tick")
        return got["tick"].astype(np.int64), got["t_ns"].astype(np.int64)

    def block(self, wanted: Wanted, span: Span) -> Block:
        """The samples themselves."""
        found = self.catalogue(wanted)
        tick, t_ns = self.moments(span)
        values = np.full((len(tick), len(found)), np.nan)
        if values.size:
            self._fill(values, tick, list(found))
        return Block(tuple(found.values()), t_ns, values)

    def _fill(self, values: Floats, tick: NDArray[np.int64], ids: list[int]) -> None:
        place = np.zeros(ids[-1] + 1, dtype=np.intp)
        place[ids] = np.arange(len(ids))
        for condition in self._slices(tick, ids):
            got = self._arrays(f"SELECT series, tick, value FROM {days.raw_name(self.day)}.samples WHERE {condition}")
            row = np.searchsorted(tick, got["tick"])
            hit = tick[row] == got["tick"]  # ticks of other hours lie between after the clock was set back
            values[row[hit], place[got["series"][hit]]] = got["value"][hit]

    def _slices(self, tick: NDArray[np.int64], ids: list[int]) -> Iterator[str]:
        """SQL conditions of some ROWS_AT_ONCE samples each, along the order in which the file lies on the disk."""
        during = f"tick BETWEEN {tick[0]} AND {tick[-1]}"
        if len(tick) * len(ids) <= ROWS_AT_ONCE:
            yield f"{during} AND {_among(ids)}"
        elif self._is_sorted():
            for part in _parts(ids, len(tick)):
                yield f"{during} AND {_among(part)}"
        else:
            for ticks in _parts(tick.tolist(), len(ids)):
                yield f"tick BETWEEN {ticks[0]} AND {ticks[-1]} AND {_among(ids)}"

    def _is_sorted(self) -> bool:
        meta = f"{days.raw_name(self.day)}.meta"
        return bool(self.cursor.execute(f"SELECT 1 FROM {meta} WHERE key = 'sorted'").fetchall())

    def rolled(self, ids: list[int], level: int, span: Span) -> Iterator[Stretches]:
        """Roll-ups of these series that begin in the span; what is not rolled up yet is, on the way. place = id."""
        midnight, rollup = days.start_of(self.day), days.rollup_name(self.day)
        first, last = max(span[0] - midnight, 0) // days.NS, min(span[1] - midnight, days.DAY_NS) // days.NS
        rolled = 0
        if self.rollup:
            row = self.cursor.execute(f"SELECT coalesce(max(tick), 0) FROM {rollup}.rolled").fetchone()
            rolled = row[0] if row else 0
        for part in _parts(ids, max((last - first) // level, 1)):
            source = self._rolled_sql(f"{rollup}.rollup_{level}s", level, rolled, _among(part))
            got = self._arrays(f"SELECT * FROM ({source}) WHERE second BETWEEN {first} AND {last}")
            yield Stretches(got["second"].astype(np.int64) * days.NS + midnight, got["series"].astype(np.intp),
                            *(got[name].astype(np.float64) for name in ("low", "mean", "high", "count")))

    def _rolled_sql(self, table: str, level: int, rolled: int, among: str) -> str:
        columns = "series, second, low, mean, high, count"
        parts = [f"SELECT {columns} FROM {table} WHERE {among}"] if self.rollup else []
        if self.raw:
            tail = rollup_sql(days.raw_name(self.day), self.day, level, f"tick >= {rolled} AND {among}")
            parts.append(f"SELECT {columns} FROM ({tail})")
        return " UNION ALL ".join(parts)

    def _arrays(self, sql: str) -> Mapping[str, NDArray[Any]]:
        return {name: np.asarray(array) for name, array in self.cursor.execute(sql).fetchnumpy().items()}


def _parts(items: Sequence[int], rows_each: int) -> Iterator[list[int]]:
    """Runs of items that stand for ROWS_AT_ONCE rows together."""
    step = max(ROWS_AT_ONCE // max(rows_each, 1), 1)
    for start in range(0, len(items), step):
        yield list(items[start : start + step])


def _among(ids: list[int]) -> str:
    """SQL condition on `series`; all numbers in a row become a range, which the zone maps understand."""
    if len(ids) == 1:
        return f"series = {ids[0]}"
    span = f"series BETWEEN {ids[0]} AND {ids[-1]}"
    return span if ids[-1] - ids[0] + 1 == len(ids) else f"{span} AND series IN ({', '.join(map(str, ids))})"
