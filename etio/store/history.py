"""The read side: everything that was kept, from any thread, and the last seconds that are still on their way."""

import logging
from collections.abc import Iterator, Sequence
from threading import Lock
from typing import Any, TypeVar

import numpy as np

from etio.core.alert import Alert, Incident
from etio.core.codec import loads
from etio.core.errors import Broken
from etio.core.event import HostEvent
from etio.core.frame import Frame
from etio.core.ports import Curve, QueryResult, Window
from etio.core.report import Report
from etio.core.series import Series
from etio.store import days, schema
from etio.store.batch import revived
from etio.store.blocks import Block, Wanted, merged, pending_block
from etio.store.config import StoreConfig
from etio.store.database import Database
from etio.store.fold import Extremes, Means, Stretches
from etio.store.query import run_query
from etio.store.reader import Day, Span
from etio.store.writer import Writer

LOG = logging.getLogger("etio.store")
T = TypeVar("T")
RAW = 0
"""Level of the samples themselves, beside the seconds of schema.LEVELS."""


class DuckArchive:
    """etio.core.ports.Archive over the day files. Raises StoreError when the database fails."""

    def __init__(self, database: Database, writer: Writer, config: StoreConfig) -> None:
        self._database, self._writer, self._config = database, writer, config
        self._one_at_a_time = Lock()
        """Held while many samples are read: several such readers at once would need more than DuckDB may use."""

    def window(self, start_ns: int, end_ns: int, names: Sequence[str] | None = None) -> Window:
        """Samples in [start_ns, end_ns]; where that is more than `window_cells` values, or the samples are gone, means
        of 10 s or 5 min at the start of their stretch."""
        wanted, span = Wanted(names=None if names is None else tuple(names)), (start_ns, end_ns)
        series = tuple(s for s in self.series() if wanted.has(s))
        with self._one_at_a_time:
            level = self._window_level(span, len(series))
            if level == RAW:
                block = self._exact(wanted, span)
                return Window(block.series, block.t_ns, block.values)
            return self._coarse_window(wanted, span, level, series)

    def _window_level(self, span: Span, series: int) -> int:
        first, last = self._clamped(span)
        most, cells = self._config.window_cells, (last - first) / days.NS * max(series, 1)
        if cells > most and last - first <= 2 * days.DAY_NS and self._frames(span) * max(series, 1) <= most:
            return RAW
        return next((n for n in (RAW, *schema.LEVELS) if cells / max(n, 1) <= most), schema.LEVELS[-1])

    def _frames(self, span: Span) -> int:
        """How many frames there really are; a daemon that has just started has few."""
        committed = sum(len(day.moments(span)[0]) for day in self._open_days(span) if day.raw)
        return committed + len(self._pending(span))

    def _clamped(self, span: Span) -> Span:
        """The span as far as there are days in it."""
        found = self._days(span)
        if not found:
            return span[0], span[0]
        first, last = days.start_of(found[0]), days.start_of(found[-1]) + days.DAY_NS
        return max(span[0], first), max(min(span[1], last), first)

    def _coarse_window(self, wanted: Wanted, span: Span, level: int, series: tuple[Series, ...]) -> Window:
        step = level * days.NS
        first, last = (t // step for t in self._clamped(span))
        means = Means(first * step, step, last - first + 1, len(series))
        for part in self._rolled(wanted, span, level, series):
            means.add(part)
        values = means.means()
        there = ~np.isnan(values).all(axis=1)
        return Window(series, (first + np.arange(len(values)))[there] * step, values[there])

    def curve(self, key: str, start_ns: int, end_ns: int, points: int = 600) -> Curve | None:
        """One series for drawing. A stretch's t_ns is its middle; with fewer samples than points, each stands alone."""
        series = self._series_of(key)
        if series is None:
            return None
        with self._one_at_a_time:
            return self._curve(series, (start_ns, end_ns), points)

    def _curve(self, series: Series, span: Span, points: int) -> Curve:
        wanted, (start_ns, end_ns) = Wanted(keys=(series.key,)), span
        level = max((n for n in schema.LEVELS if n * days.NS * points <= end_ns - start_ns), default=RAW)
        step = max((end_ns - start_ns) // points + 1, 1)
        fold = Extremes(start_ns, step, points, 1)
        if level == RAW:
            block = self._exact(wanted, span)
            if len(block.t_ns) <= points:
                value = block.values[:, 0] if block.series else np.full(len(block.t_ns), np.nan)
                return Curve(series, block.t_ns, value, value, value)
            fold.add(block.stretches())
        else:
            for part in self._rolled(wanted, span, level, (series,)):
                fold.add(part)
        low, mean, high = (a[:, 0] for a in fold.result())
        return Curve(series, start_ns + step // 2 + np.arange(points, dtype=np.int64) * step, low, mean, high)

    def _series_of(self, key: str) -> Series | None:
        pending = self._latest()
        with self._database.reading() as (cursor, _):
            row = cursor.execute("SELECT name, unit, kind, labels FROM etio.series WHERE key = ?", [key]).fetchone()
        return revived(*row) if row else next((s for s in pending if s.key == key), None)

    def _latest(self) -> tuple[Series, ...]:
        """Series of the frames on their way; taken before the list is read, so that none slips through between."""
        return next((f.series for f in reversed(self._writer.pending())), ())

    def _exact(self, wanted: Wanted, span: Span) -> Block:
        """One row per frame; of days that have only roll-ups, one per 10 s."""
        pending = self._pending(span)
        blocks = []
        for day in self._open_days(span):
            blocks.append(day.block(wanted, span) if day.raw else _rolled_block(day, wanted, span))
        committed = {t for block in blocks for t in block.t_ns.tolist()} if pending else set()
        fresh = [f for f in pending if f.t_ns not in committed]
        return merged([*blocks, pending_block(fresh, wanted)])

    def _rolled(self, wanted: Wanted, span: Span, level: int, series: tuple[Series, ...]) -> Iterator[Stretches]:
        """Roll-ups and what is still on its way; place = position in `series`."""
        index = {s: i for i, s in enumerate(series)}
        pending, committed = self._pending(span), set[int]()
        for day in self._open_days(span):
            found = {n: s for n, s in day.catalogue(wanted).items() if s in index}
            if not found:
                continue
            places = np.zeros(max(found) + 1, dtype=np.intp)
            places[list(found)] = [index[s] for s in found.values()]
            if pending and day.raw:
                committed.update(day.moments((pending[0].t_ns, pending[-1].t_ns))[1].tolist())
            yield from (part.at(places) for part in day.rolled(list(found), level, span))
        rest = pending_block([f for f in pending if f.t_ns not in committed], wanted)
        yield rest.stretches().at(np.array([index.get(s, 0) for s in rest.series], dtype=np.intp))

    def _pending(self, span: Span) -> list[Frame]:
        """Taken before the files are read, so that nothing slips through between; what is in both is skipped."""
        return sorted((f for f in self._writer.pending() if span[0] <= f.t_ns <= span[1]), key=lambda f: f.t_ns)

    def _days(self, span: Span) -> list[str]:
        return days.between(days.listing(self._database.directory), *span)

    def _open_days(self, span: Span) -> Iterator[Day]:
        """Each day of the span, on a cursor of its own and in one snapshot."""
        for day in self._days(span):
            names = [days.raw_name(day), days.rollup_name(day)]
            with self._database.reading(names) as (cursor, present):
                if present:
                    cursor.execute("BEGIN TRANSACTION READ ONLY")
                    yield Day(cursor, day, names[0] in present, names[1] in present)

    def series(self) -> Sequence[Series]:
        """Every series within retention."""
        pending = self._latest()
        with self._database.reading() as (cursor, _):
            rows = cursor.execute("SELECT name, unit, kind, labels FROM etio.series ORDER BY rowid").fetchall()
        kept = [revived(*row) for row in rows]
        known = {s.key for s in kept}
        return kept + [s for s in pending if s.key not in known]

    def events(self, start_ns: int, end_ns: int) -> Sequence[HostEvent]:
        """Host events in [start_ns, end_ns], oldest first."""
        return self._bodies(HostEvent, "events WHERE t_ns BETWEEN ? AND ? ORDER BY t_ns", [start_ns, end_ns])

    def alerts(self, firing_only: bool = False, limit: int = 500) -> Sequence[Alert]:
        """Latest state of each alert (one per time that it became pending), newest first."""
        where = "WHERE state = 'firing'" if firing_only else ""
        return self._bodies(Alert, f"alerts {where} ORDER BY pending_ns DESC LIMIT ?", [limit])

    def incidents(self, limit: int = 100, since_ns: int = 0) -> Sequence[Incident]:
        """Newest first."""
        return self._bodies(Incident, "incidents WHERE opened_ns >= ? ORDER BY opened_ns DESC, id DESC LIMIT ?",
                            [since_ns, limit])

    def incident(self, incident_id: str) -> Incident | None:
        """One incident, or None."""
        return next(iter(self._bodies(Incident, "incidents WHERE id = ?", [incident_id])), None)

    def reports(self, limit: int = 100, since_ns: int = 0) -> Sequence[Report]:
        """Newest first."""
        return self._bodies(Report, "reports WHERE created_ns >= ? ORDER BY created_ns DESC, id DESC LIMIT ?",
                            [since_ns, limit])

    def report(self, report_id: str) -> Report | None:
        """One report by its own id or its incident's id (then the newest), or None."""
        found = self._bodies(Report, "reports WHERE id = $1 OR incident_id = $1"
                                     " ORDER BY id = $1 DESC, created_ns DESC LIMIT 1", [report_id])
        return next(iter(found), None)

    def query(self, sql: str, max_rows: int = 10_000, timeout_s: float = 10.0) -> QueryResult:
        """One SELECT of a person; see etio.store.query. Raises ValueError with a message for the person."""
        self._writer.flush(2.0)
        return run_query(self._database, sql, max_rows, timeout_s)

    def _bodies(self, cls: type[T], rest: str, values: list[Any]) -> list[T]:
        self._writer.settle()
        with self._database.reading() as (cursor, _):
            rows = cursor.execute(f"SELECT body FROM etio.{rest}", values).fetchall()
        return list(_decoded(cls, (row[0] for row in rows)))


def _decoded(cls: type[T], bodies: Iterator[str]) -> Iterator[T]:
    """What another version of the program wrote and this one cannot read is left out, and said."""
    for body in bodies:
        try:
            yield loads(cls, body)
        except Broken as error:
            LOG.warning("a kept %s cannot be read and is left out: %s", cls.__name__, error)


def _rolled_block(day: Day, wanted: Wanted, span: Span) -> Block:
    """The 10 s means of a day whose samples are gone."""
    found = day.catalogue(wanted)
    ids = np.array(list(found), dtype=np.int64)
    parts = list(day.rolled(list(found), schema.LEVELS[0], span))
    t_ns = np.unique(np.concatenate([p.t_ns for p in parts])) if parts else np.empty(0, dtype=np.int64)
    values = np.full((len(t_ns), len(found)), np.nan)
    for part in parts:
        values[np.searchsorted(t_ns, part.t_ns), np.searchsorted(ids, part.place)] = part.mean
    return Block(tuple(found.values()), t_ns, values)
