"""The read side: everything that was kept, from any thread, and the last seconds that are still on their way."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import duckdb
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
from etio.store.config import StoreConfig
from etio.store.database import Database
from etio.store.fold import Fold, Stretches, samples
from etio.store.query import run_query
from etio.store.reader import Day, catalogue, moments, opened, raw_samples, rolled_samples
from etio.store.writer import Writer

LOG = logging.getLogger("etio.store")
T = TypeVar("T")
RAW = 0
"""Level of the samples themselves, beside the seconds of schema.LEVELS."""
Batch = tuple[list[Series], Stretches, list[int]]


class DuckArchive:
    """etio.core.ports.Archive over the day files. Raises StoreError when the database fails."""

    def __init__(self, database: Database, writer: Writer, config: StoreConfig) -> None:
        self._database, self._writer, self._config = database, writer, config

    def window(self, start_ns: int, end_ns: int, names: Sequence[str] | None = None) -> Window:
        """Samples in [start_ns, end_ns]; where that is more than `window_cells` values, or the samples are gone, means
        of 10 s or 5 min at the start of their stretch."""
        level = self._window_level(start_ns, end_ns, names)
        batches = list(self._batches(start_ns, end_ns, level, None, None if names is None else list(names)))
        return _exact_window(batches) if level == RAW else _folded_window(batches, start_ns, end_ns, level)

    def _window_level(self, start_ns: int, end_ns: int, names: Sequence[str] | None) -> int:
        known = self.series()
        count = len(known) if names is None else sum(s.name in set(names) for s in known)
        cells = self._seconds(start_ns, end_ns) * max(count, 1)
        return next((level for level in (RAW, *schema.LEVELS) if cells / max(level, 1) <= self._config.window_cells),
                    schema.LEVELS[-1])

    def _seconds(self, start_ns: int, end_ns: int) -> float:
        """Length of the range as far as there are days in it."""
        found = days.between(days.listing(self._database.directory), start_ns, end_ns)
        if not found:
            return 0.0
        first, last = days.start_of(found[0]), days.start_of(found[-1]) + days.DAY_NS
        return max(min(end_ns, last) - max(start_ns, first), 0) / days.NS

    def curve(self, key: str, start_ns: int, end_ns: int, points: int = 600) -> Curve | None:
        """One series for drawing. A stretch's t_ns is its middle; with fewer samples than points, each stands alone."""
        level = max((n for n in schema.LEVELS if n * days.NS * points <= end_ns - start_ns), default=RAW)
        batches = list(self._batches(start_ns, end_ns, level, [key], None))
        series = next((s for found, _, _ in batches for s in found), None) or self._known(key)
        if series is None:
            return None
        ticks = np.unique(np.array([t for _, _, at in batches for t in at], dtype=np.int64))
        if level == RAW and len(ticks) <= points:
            exact = _exact_window(batches)
            value = exact.values[:, 0] if exact.values.shape[1] else np.full(len(exact.t_ns), np.nan)
            return Curve(series, exact.t_ns, value, value, value)
        return _folded_curve(series, batches, start_ns, end_ns, points)

    def _known(self, key: str) -> Series | None:
        return next((s for s in self.series() if s.key == key), None)

    def _batches(self, start_ns: int, end_ns: int, level: int, keys: list[str] | None, names: list[str] | None
                 ) -> Iterator[Batch]:
        """(series, their stretches, moments of the frames) of each day, then of what is still on its way."""
        pending = [f for f in self._writer.pending() if start_ns <= f.t_ns <= end_ns]
        seen: set[int] = set()
        for day in days.between(days.listing(self._database.directory), start_ns, end_ns):
            with self._database.reading([days.raw_name(day), days.rollup_name(day)]) as (cursor, present):
                if not present:
                    continue
                cursor.execute("BEGIN TRANSACTION READ ONLY")
                one = opened(day, present)
                if pending and one.raw:
                    seen.update(moments(cursor, one, pending[0].t_ns, pending[-1].t_ns)[1].tolist())
                yield _read_day(cursor, one, (start_ns, end_ns), level, catalogue(cursor, one, keys, names))
        fresh = [f for f in pending if f.t_ns not in seen]
        if fresh:
            yield _read_pending(fresh, keys, names)

    def series(self) -> Sequence[Series]:
        """Every series within retention, in order of key."""
        with self._database.reading() as (cursor, _):
            rows = cursor.execute("SELECT name, unit, kind, labels FROM etio.series ORDER BY key").fetchall()
        kept = [revived(*row) for row in rows]
        known = {s.key for s in kept}
        pending = self._writer.pending()
        return kept + [s for s in (pending[-1].series if pending else ()) if s.key not in known]

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


def _read_day(cursor: duckdb.DuckDBPyConnection, day: Day, span: tuple[int, int], level: int, found: dict[int, Series]
              ) -> Batch:
    ids = list(found)
    if level == RAW and day.raw:
        ticks = moments(cursor, day, *span)[1].tolist()
        return list(found.values()), raw_samples(cursor, day, ids, *span), ticks
    part = rolled_samples(cursor, day, ids, level or schema.LEVELS[0], span)
    return list(found.values()), part, np.unique(part.t_ns).tolist()


def _read_pending(frames: Sequence[Frame], keys: list[str] | None, names: list[str] | None) -> Batch:
    """Frames of the writer's queue as the files would give them."""
    latest = max(frames, key=lambda f: len(f.series)).series
    wanted = [i for i, s in enumerate(latest) if _is_wanted(s, keys, names)]
    values = np.full((len(frames), len(wanted)), np.nan)
    for at, frame in enumerate(frames):
        there = [i for i in wanted if i < len(frame.values)]
        values[at, : len(there)] = frame.values[there]
    row, place = np.nonzero(~np.isnan(values))
    times = np.array([f.t_ns for f in frames], dtype=np.int64)
    return [latest[i] for i in wanted], samples(times[row], place, values[row, place]), times.tolist()


def _is_wanted(series: Series, keys: list[str] | None, names: list[str] | None) -> bool:
    if keys is not None:
        return series.key in keys
    return names is None or series.name in names


def _joined(batches: Sequence[Batch]) -> tuple[tuple[Series, ...], list[Stretches]]:
    """One catalogue for all batches, and their stretches with places in it."""
    index: dict[Series, int] = {}
    parts = []
    for found, part, _ in batches:
        places = np.array([index.setdefault(s, len(index)) for s in found], dtype=np.intp)
        parts.append(Stretches(part.t_ns, places[part.place], part.low, part.mean, part.high, part.count))
    return tuple(index), parts


def _exact_window(batches: Sequence[Batch]) -> Window:
    """One row per frame."""
    series, parts = _joined(batches)
    t_ns = np.unique(np.array([t for _, _, at in batches for t in at], dtype=np.int64))
    values = np.full((len(t_ns), len(series)), np.nan)
    for part in parts:
        values[np.searchsorted(t_ns, part.t_ns), part.place] = part.mean
    return Window(series, t_ns, values)


def _folded_window(batches: Sequence[Batch], start_ns: int, end_ns: int, level: int) -> Window:
    """One row per roll-up stretch in which there was any value."""
    series, parts = _joined(batches)
    step = level * days.NS
    first = min((int(p.t_ns.min()) for p in parts if len(p.t_ns)), default=start_ns) // step * step
    last = max((int(p.t_ns.max()) for p in parts if len(p.t_ns)), default=first)
    fold = Fold(first, step, (min(last, end_ns) - first) // step + 1, len(series))
    for part in parts:
        fold.add(part)
    mean = fold.result()[1]
    there = ~np.isnan(mean).all(axis=1) if mean.size else np.zeros(len(mean), dtype=bool)
    return Window(series, (first + np.arange(len(mean)) * step)[there], mean[there])


def _folded_curve(series: Series, batches: Sequence[Batch], start_ns: int, end_ns: int, points: int) -> Curve:
    _, parts = _joined(batches)
    step = (end_ns - start_ns) // points + 1
    fold = Fold(start_ns, step, points, 1)
    for part in parts:
        fold.add(Stretches(part.t_ns, np.zeros_like(part.place), part.low, part.mean, part.high, part.count))
    low, mean, high = (a[:, 0] for a in fold.result())
    return Curve(series, start_ns + step // 2 + np.arange(points, dtype=np.int64) * step, low, mean, high)
