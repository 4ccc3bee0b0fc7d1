"""Writes frames into the file of their day and keeps that day's roll-ups up to date."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etio.core.frame import Frame
from etio.store import days, schema
from etio.store.batch import Dictionary, SeriesRow, columns, revived
from etio.store.database import Database
from etio.store.duck import duckdb

WAL_LIMIT = 12 * 1024 * 1024
EventRow = tuple[int, str]
"""(t_ns, body) of a host event."""
FORCE_LIMIT = 4 * WAL_LIMIT
BLOCK_NS = 900 * days.NS
"""How often the open day is rolled up: longer runs of one series read faster, a shorter rest is cheaper to add."""
SAMPLES_AT_ONCE = 250_000
"""Samples in one step of a roll-up."""


class DayWriter:
    """The open day. Used by the writer thread only."""

    def __init__(self, database: Database) -> None:
        self.day = ""
        self._database = database
        self._cursor = database.writer_cursor()
        self._dictionary = Dictionary()
        self._tick = 0
        self._rolled_block = 0
        self._generation = database.generation

    def write(self, frames: Sequence[Frame], events: Sequence[EventRow]) -> int:
        """Commits frames of one day, in order, and returns the number of samples. Raises duckdb.Error or StoreError."""
        self._switch(days.day_of(frames[0].t_ns))
        rows = self._insert(frames, events)
        self._tick += len(frames)
        return rows

    def tend(self, t_ns: int) -> None:
        """What follows a commit: roll-ups and logs. t_ns: moment of the newest frame."""
        if self.day and self._generation == self._database.generation:
            self._roll(t_ns)

    def _switch(self, day: str) -> None:
        if self._generation != self._database.generation:
            self.day, self._generation = "", self._database.generation
            self._cursor = self._database.writer_cursor()
        if day != self.day:
            self.close_day()
            self._open_day(day)

    def _open_day(self, day: str) -> None:
        raw = days.raw_name(day)
        self._database.write_to(raw)
        self._database.write_to(days.rollup_name(day))
        known = self._cursor.execute(f"SELECT key, name, unit, kind, labels FROM {raw}.series ORDER BY id").fetchall()
        note_series(self._cursor, day, known)
        self._dictionary.load([revived(*row[1:]) for row in known])
        self._tick = self._number(f"SELECT max(tick) + 1 FROM {raw}.frames")
        self._rolled_block = 0
        self.day = day

    def _insert(self, frames: Sequence[Frame], events: Sequence[EventRow]) -> int:
        batch = columns(frames, self._tick, self._dictionary)
        raw = days.raw_name(self.day)
        moments = ", ".join(f"({tick}, {f.t_ns})" for tick, f in enumerate(frames, self._tick))
        fresh = self._dictionary.rows
        note_series(self._cursor, self.day, [row[2:] for row in fresh])
        with transaction(self._cursor) as cursor:
            insert_series(cursor, raw, fresh)
            cursor.execute(f"INSERT INTO {raw}.frames VALUES {moments}")
            insert(cursor, f"{raw}.samples", {"series": batch.series, "tick": batch.tick, "value": batch.value})
            if events:
                cursor.executemany(f"INSERT INTO {raw}.events VALUES (?, ?)", events)
        fresh.clear()
        return len(batch.value)

    def _roll(self, t_ns: int) -> None:
        """Rolls up the quarter of an hour that just ended."""
        block = t_ns // BLOCK_NS
        if self._rolled_block and block > self._rolled_block:
            raw = days.raw_name(self.day)
            until = self._number(f"SELECT min(tick) FROM {raw}.frames WHERE t_ns >= {block * BLOCK_NS}")
            roll_up(self._cursor, self.day, until)
        if block != self._rolled_block:
            self._rolled_block = block
            self.checkpoint()

    def close_day(self) -> None:
        """Rolls up the rest, moves the logs into the files and gives them back."""
        if not self.day:
            return
        day, self.day = self.day, ""
        roll_up(self._cursor, day, self._tick)
        for name in (days.raw_name(day), days.rollup_name(day)):
            with self._database.detached(name):
                pass

    def reopen(self) -> bool:
        """Closes the day's files and opens them again, so that nothing of them stays in memory. False where a reader
        kept one open. Where it fails, the next batch opens the day from the beginning. Raises StoreError."""
        day, self.day = self.day, ""
        done = [self._database.opened_again(name) for name in (days.raw_name(day), days.rollup_name(day))]
        self.day = day
        return all(done)

    def checkpoint(self) -> None:
        """Keeps the logs small, politely at first."""
        for name in (days.raw_name(self.day), days.rollup_name(self.day), schema.MAIN):
            size = sum(p.stat().st_size for p in days.siblings(days.path_of(self._database.directory, name)))
            if size > WAL_LIMIT:
                self._database.checkpoint(name, force=size > FORCE_LIMIT)

    def _number(self, sql: str) -> int:
        row = self._cursor.execute(sql).fetchone()
        return int(row[0]) if row and row[0] is not None else 0


class transaction:
    """All or nothing on one cursor."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection) -> None:
        self._cursor = cursor

    def __enter__(self) -> duckdb.DuckDBPyConnection:
        return self._cursor.begin()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._cursor.commit()
            return
        try:
            self._cursor.rollback()
        except duckdb.Error:
            return  # the first error says what happened


def insert(cursor: duckdb.DuckDBPyConnection, table: str, arrays: dict[str, NDArray[Any]]) -> None:
    """Appends aligned arrays, in the order of the table's columns."""
    cursor.register("batch", arrays)
    try:
        cursor.execute(f"INSERT INTO {table} SELECT {', '.join(arrays)} FROM batch")
    finally:
        cursor.unregister("batch")


def insert_series(cursor: duckdb.DuckDBPyConnection, raw: str, rows: Sequence[SeriesRow]) -> None:
    """Appends rows of the dictionary of a day."""
    if rows:
        number, first, *texts = zip(*rows, strict=True)
        numbers = {"id": np.array(number, dtype=np.uint32), "first": np.array(first, dtype=np.uint32)}
        insert(cursor, f"{raw}.series", numbers | _texts(texts))


def note_series(cursor: duckdb.DuckDBPyConnection, day: str, rows: Sequence[tuple[str, ...]]) -> None:
    """Keeps the list of all series, each with the last day that had it, in the small file.

    It comes before the samples, so that a reader never meets samples of a series that it cannot know.
    """
    if not rows:
        return
    names = _texts(list(zip(*rows, strict=True)))
    with transaction(cursor):
        cursor.execute(f"DELETE FROM {schema.MAIN}.series WHERE key IN (SELECT unnest(?))", [names["key"].tolist()])
        insert(cursor, f"{schema.MAIN}.series", names | _texts([[day] * len(rows)], ("last_day",)))


def _texts(columns_of: Sequence[Sequence[str]], names: Sequence[str] = ("key", "name", "unit", "kind", "labels")
           ) -> dict[str, NDArray[Any]]:
    return {name: np.array(values, dtype=object) for name, values in zip(names, columns_of, strict=True)}


def roll_up(cursor: duckdb.DuckDBPyConnection, day: str, until: int) -> None:
    """Puts the ticks below `until` that are not in the roll-ups yet into them."""
    raw, rollup = days.raw_name(day), days.rollup_name(day)
    row = cursor.execute(f"SELECT coalesce(max(tick), 0) FROM {rollup}.rolled").fetchone()
    since = int(row[0]) if row else 0
    if until <= since:
        return
    with transaction(cursor):
        cursor.execute(f"INSERT INTO {rollup}.series SELECT * FROM {raw}.series"
                       f" WHERE id > coalesce((SELECT max(id) FROM {rollup}.series), -1)")
        fine, coarse = (f"{rollup}.rollup_{level}s" for level in schema.LEVELS)
        known = _count(cursor, fine)
        for low, high in runs(_count(cursor, f"{raw}.series"), until - since):
            source = rollup_sql(raw, day, schema.LEVELS[0],
                                f"tick >= {since} AND tick < {until} AND series BETWEEN {low} AND {high}")
            cursor.execute(f"INSERT INTO {fine} {source} ORDER BY series, second")
        cursor.execute(f"INSERT INTO {coarse} {_coarser_sql(fine, known)} ORDER BY series, second")
        cursor.execute(f"INSERT INTO {rollup}.rolled VALUES ({until})")


def runs(series: int, ticks: int) -> list[tuple[int, int]]:
    """(first, last) numbers of series that are rolled up at once: SAMPLES_AT_ONCE, so that the memory they need stays
    the same however many there are.

    >>> runs(1000, 900)
    [(0, 276), (277, 553), (554, 830), (831, 999)]
    """
    step = max(1, SAMPLES_AT_ONCE // max(ticks, 1))
    return [(low, min(low + step, series) - 1) for low in range(0, series, step)]


def _count(cursor: duckdb.DuckDBPyConnection, table: str) -> int:
    row = cursor.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(row[0]) if row else 0


def _coarser_sql(fine: str, known: int) -> str:
    """The coarse roll-up of what was added to the fine one behind its first `known` rows."""
    second = f"(second // {schema.LEVELS[1]} * {schema.LEVELS[1]})::UINTEGER"
    return (f"SELECT series, {second} AS second, min(low) AS low,"
            f" (sum(mean::DOUBLE * count) / sum(count))::FLOAT AS mean, max(high) AS high,"
            f" arg_max(last, {fine}.second) AS last, sum(count)::UINTEGER AS count"
            f" FROM {fine} WHERE rowid >= {known} GROUP BY series, {second}")


def rollup_sql(raw: str, day: str, level: int, condition: str) -> str:
    """The roll-up of samples as a query: series, second, low, mean, high, last, count."""
    second = f"((t_ns - {days.start_of(day)}) // {level * days.NS} * {level})::UINTEGER"
    return (f"SELECT series, {second} AS second, min(value) AS low, avg(value)::FLOAT AS mean, max(value) AS high,"
            f" arg_max(value, tick) AS last, count(*)::UINTEGER AS count"
            f" FROM {raw}.samples JOIN {raw}.frames USING (tick) WHERE {condition} GROUP BY series, second")


