"""Retention, compaction and what memory is given back, in small steps between batches."""

import logging
import os
import subprocess
import sys
from pathlib import Path

from etio.store import days
from etio.store.config import StoreConfig
from etio.store.database import Database
from etio.store.daywriter import DayWriter
from etio.store.kept import forget_before
from etio.store.relief import Relief

LOG = logging.getLogger("etio.store")
RETENTION_NS = 600 * days.NS
JUMP_NS = 3600 * days.NS
"""A clock that leaps further than this is given one retention period to be set right, before days are removed."""
ATTEMPTS = 3
NEW = ".new"


class Upkeep:
    """Used by the writer thread only."""

    def __init__(self, database: Database, config: StoreConfig) -> None:
        self._database, self._config = database, config
        self._seen_ns = self._retained_ns = 0
        self._child: subprocess.Popen[bytes] | None = None
        self._child_day = ""
        self._failures: dict[str, int] = {}
        self._sorted: set[str] = set()
        self.relief = Relief(database)
        self._remove_new()
        for spilled in (database.directory / "tmp").glob("*"):
            spilled.unlink()

    def step(self, day: DayWriter, now_ns: int) -> None:
        """Does what is due. now_ns: moment of the newest frame, 0 where there is none."""
        self._collect_child()
        if now_ns - self._seen_ns > JUMP_NS:
            self._retained_ns = now_ns
        if now_ns >= self._retained_ns + RETENTION_NS:
            self._retain(now_ns)
            self._retained_ns = now_ns
        self._seen_ns = now_ns or self._seen_ns
        if self._config.compact and day.day and self._child is None:
            self._start_child(day.day)
        self.relief.step(day, now_ns)

    def close(self) -> None:
        """Ends a running compaction; it starts again another time."""
        if self._child is not None:
            self._child.terminate()
            self._child.wait(10)
            self._child = None
            self._remove_new()

    def _retain(self, now_ns: int) -> None:
        today = days.day_of(now_ns)
        for file in days.expired(days.listing(self._database.directory), today, self._config):
            with self._database.detached(file.name):
                days.path_of(self._database.directory, file.name).unlink(missing_ok=True)
            LOG.info("%s: %d MB removed by retention", file.name, file.bytes // 10**6)
        oldest = days.days_before(today, self._config.retention_days - 1)
        forget_before(self._database, days.start_of(oldest), oldest)
        for aside in self._database.directory.glob("*.corrupt-*"):
            if aside.stat().st_mtime_ns < days.start_of(oldest):
                aside.unlink()

    def _start_child(self, today: str) -> None:
        day = self._next_unsorted(today)
        if not day:
            return
        command = [sys.executable, "-m", "etio.store.compact", str(self._database.directory), day,
                   "--memory-mb", str(self._config.compact_memory_mb)]
        path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        self._child = subprocess.Popen(command, stdin=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": path},
                                       start_new_session=True)  # ours is put before those of others
        self._child_day = day

    def _next_unsorted(self, today: str) -> str:
        for file in days.listing(self._database.directory):
            if not file.raw or file.day >= today or file.day in self._sorted:
                continue
            if self._failures.get(file.day, 0) >= ATTEMPTS:
                continue
            if self._is_sorted(file.name):
                self._sorted.add(file.day)
                continue
            return file.day
        return ""

    def _is_sorted(self, name: str) -> bool:
        with self._database.reading([name]) as (cursor, present):
            if not present:
                return True
            return bool(cursor.execute(f"SELECT 1 FROM {name}.meta WHERE key = 'sorted'").fetchall())

    def _collect_child(self) -> None:
        if self._child is None or self._child.poll() is None:
            return
        code, day = self._child.returncode, self._child_day
        self._child = None
        if code == 0:
            self._swap(day)
            self._sorted.add(day)
            return
        self._remove_new()
        self._failures[day] = self._failures.get(day, 0) + 1
        LOG.warning("compaction of %s ended with %d, attempt %d of %d", day, code, self._failures[day], ATTEMPTS)

    def _swap(self, day: str) -> None:
        for name in (days.rollup_name(day), days.raw_name(day)):
            path = days.path_of(self._database.directory, name)
            with self._database.detached(name):
                path.with_name(path.name + NEW).replace(path)

    def _remove_new(self) -> None:
        for path in self._database.directory.glob(f"*{days.SUFFIX}{NEW}*"):
            path.unlink()
