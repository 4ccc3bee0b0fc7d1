"""Samples and roll-ups of one day as arrays."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from etio.core.series import Series
from etio.store import days
from etio.store.batch import revived
from etio.store.daywriter import rollup_sql
from etio.store.fold import Stretches, Times, samples


@dataclass(frozen=True, slots=True)
class Day:
    """One day and which of its files are attached to the cursor."""

    day: str
    raw: bool
    rollup: bool

    @property
    def source(self) -> str:
        """The attached file that lists the day's series."""
        return days.raw_name(self.day) if self.raw else days.rollup_name(self.day)


def opened(day: str, present: tuple[str, ...]) -> Day:
    """The day as far as its files are attached."""
    return Day(day, days.raw_name(day) in present, days.rollup_name(day) in present)


def catalogue(cursor: duckdb.DuckDBPyConnection, day: Day, keys: list[str] | None, names: list[str] | None
              ) -> dict[int, Series]:
    """The day's series by number, all or those with these keys or names; in order of first sight."""
    column, wanted = ("key", keys) if keys is not None else ("name", names)
    where = "" if wanted is None else f"WHERE {column} IN (SELECT unnest(?))"
    rows = cursor.execute(f"SELECT id, name, unit, kind, labels FROM {day.source}.series {where} ORDER BY id",
                          [] if wanted is None else [wanted]).fetchall()
    return {row[0]: revived(*row[1:]) for row in rows}


def moments(cursor: duckdb.DuckDBPyConnection, day: Day, start_ns: int, end_ns: int
            ) -> tuple[NDArray[np.int64], Times]:
    """(tick, t_ns) of the frames in [start_ns, end_ns], by tick."""
    got = _arrays(cursor, f"SELECT tick, t_ns FROM {days.raw_name(day.day)}.frames"
                          f" WHERE t_ns BETWEEN {start_ns} AND {end_ns} ORDER BY tick")
    return got["tick"].astype(np.int64), got["t_ns"].astype(np.int64)


def raw_samples(cursor: duckdb.DuckDBPyConnection, day: Day, ids: list[int], start_ns: int, end_ns: int) -> Stretches:
    """Samples of these series in [start_ns, end_ns]; place = position in `ids`."""
    tick, t_ns = moments(cursor, day, start_ns, end_ns)
    if not len(tick) or not ids:
        return _nothing()
    got = _arrays(cursor, f"SELECT series, tick, value FROM {days.raw_name(day.day)}.samples"
                          f" WHERE tick BETWEEN {tick[0]} AND {tick[-1]} AND {_among(ids)}")
    at = np.searchsorted(tick, got["tick"])
    hit = tick[np.minimum(at, len(tick) - 1)] == got["tick"]
    return samples(t_ns[at[hit]], _places(ids, got["series"][hit]), got["value"][hit])


def rolled_samples(cursor: duckdb.DuckDBPyConnection, day: Day, ids: list[int], level: int, span: tuple[int, int]
                   ) -> Stretches:
    """Roll-ups of these series that begin in span (start_ns, end_ns), and rolled up on the way what is not yet."""
    if not ids:
        return _nothing()
    midnight, rollup = days.start_of(day.day), days.rollup_name(day.day)
    low, high = (t - midnight for t in span)
    parts = []
    if day.rollup:
        parts.append(f"SELECT series, second, low, mean, high, count FROM {rollup}.rollup_{level}s WHERE {_among(ids)}")
    if day.raw:
        row = cursor.execute(f"SELECT coalesce(max(tick), 0) FROM {rollup}.rolled").fetchone() if day.rollup else (0,)
        tail = rollup_sql(days.raw_name(day.day), day.day, level, f"tick >= {row[0] if row else 0} AND {_among(ids)}")
        parts.append(f"SELECT series, second, low, mean, high, count FROM ({tail})")
    got = _arrays(cursor, f"SELECT * FROM ({' UNION ALL '.join(parts)})"
                          f" WHERE second BETWEEN {max(low // days.NS, 0)} AND {min(high // days.NS, 90_000)}")
    return Stretches(got["second"].astype(np.int64) * days.NS + midnight, _places(ids, got["series"]),
                     *(got[name].astype(np.float64) for name in ("low", "mean", "high", "count")))


def _arrays(cursor: duckdb.DuckDBPyConnection, sql: str) -> Mapping[str, NDArray[Any]]:
    return {name: np.asarray(array) for name, array in cursor.execute(sql).fetchnumpy().items()}


def _among(ids: list[int]) -> str:
    """SQL condition on `series`; all numbers in a row become a range, which the zone maps understand."""
    if ids[-1] - ids[0] + 1 == len(ids):
        return f"series BETWEEN {ids[0]} AND {ids[-1]}"
    return f"series BETWEEN {ids[0]} AND {ids[-1]} AND series IN ({', '.join(map(str, ids))})"


def _places(ids: list[int], series: NDArray[Any]) -> NDArray[np.intp]:
    return np.searchsorted(np.array(ids), series).astype(np.intp)


def _nothing() -> Stretches:
    none = np.empty(0)
    return Stretches(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.intp), none, none, none, none)
