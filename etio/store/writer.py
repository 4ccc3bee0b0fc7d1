"""The one writer thread: takes frames and what else is to be kept, commits in batches, never blocks its callers."""

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from threading import Condition, Thread

from etio.core.errors import StoreError
from etio.core.event import HostEvent
from etio.core.frame import Frame
from etio.store.config import StoreConfig
from etio.store.database import Database
from etio.store.days import day_of
from etio.store.daywriter import DayWriter
from etio.store.duck import duckdb
from etio.store.faults import is_fatal
from etio.store.kept import Item, body_of, keep
from etio.store.upkeep import Upkeep

LOG = logging.getLogger("etio.store")
QUEUE_ITEMS = 10_000
RESUME_FACTOR = 1.1


@dataclass(slots=True)
class WriterStats:
    """What the writer did since its start.

    rows: samples committed; dropped_frames, dropped_items: what found no room or no disk; seconds: spent writing;
    slowest_seconds: longest batch; suspended: why no samples are written now, "" normally; failures: failed commits.
    """

    rows: int = 0
    batches: int = 0
    items: int = 0
    dropped_frames: int = 0
    dropped_rows: int = 0
    dropped_items: int = 0
    seconds: float = 0.0
    slowest_seconds: float = 0.0
    failures: int = 0
    last_error: str = ""
    suspended: str = ""


def free_bytes(directory: Path) -> int:
    """Space an ordinary user may still use on the volume of `directory`."""
    volume = os.statvfs(directory)
    return volume.f_bavail * volume.f_frsize


class Writer:
    """Owns the writer thread. put_frame() and put() return at once; everything else may wait."""

    def __init__(self, database: Database, config: StoreConfig, free: Callable[[Path], int] = free_bytes) -> None:
        """`free` tells the free bytes of the volume; tests fill it with their own."""
        self.stats = WriterStats()
        self._database, self._config, self._free = database, config, free
        self._wake = Condition()
        self._frames: list[Frame] = []
        self._items: list[tuple[Item, str]] = []
        self._events: list[tuple[Item, str]] = []
        self._day = DayWriter(database)
        self._upkeep = Upkeep(database, config)
        self._handed = self._settled = 0
        self._flush = False
        self._closing = False
        self._thread = Thread(target=self._run, name="etio-writer", daemon=True)
        self._thread.start()

    def put_frame(self, frame: Frame) -> bool:
        """Hands a frame over. False: the queue is full or the writer is closed; the frame is dropped and counted.

        Raises ValueError when values and series do not fit together.
        """
        if frame.values.shape != (len(frame.series),):
            raise ValueError(f"a frame of {len(frame.series)} series has values of shape {frame.values.shape}")
        with self._wake:
            if self._closing or len(self._frames) >= self._config.queue_frames:
                self._drop([frame])
                return False
            self._frames.append(frame)
            self._handed += 1
        return True

    def put(self, item: Item) -> bool:
        """Hands over what is committed at once. False: the queue is full; the item is dropped and counted.

        Raises TypeError for an item that JSON cannot carry.
        """
        body = body_of(item)
        with self._wake:
            if self._closing or len(self._items) >= QUEUE_ITEMS:
                self.stats.dropped_items += 1
                return False
            self._items.append((item, body))
            self._handed += 1
            self._wake.notify_all()
        return True

    def pending(self) -> tuple[Frame, ...]:
        """Frames that are not yet committed; take them before reading the files, and skip what is in both."""
        with self._wake:
            return tuple(self._frames)

    def flush(self, timeout: float = 10.0) -> bool:
        """Waits until everything handed over so far is committed. False when that took longer, or failed."""
        with self._wake:
            self._flush, target = True, self._handed
            self._wake.notify_all()
            return self._wake.wait_for(lambda: self._settled >= target, timeout)

    def settle(self, timeout: float = 1.0) -> bool:
        """Waits until alerts, incidents, events and reports are committed; samples may still wait."""
        with self._wake:
            return self._wake.wait_for(lambda: not self._items, timeout)

    def close(self, timeout: float = 30.0) -> None:
        """Drains, rolls up, checkpoints and ends the thread; may be called twice."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        self._thread.join(timeout)

    def _run(self) -> None:
        due = time.monotonic() + self._config.batch_seconds
        while self._wait(due):
            self._write_items()
            if self._flush or time.monotonic() >= due:
                self._flush = False
                self._write_frames()
                due = time.monotonic() + self._config.batch_seconds
        self._finish()

    def _wait(self, due: float) -> bool:
        """Sleeps until there is something to do. False when the writer is to end."""
        with self._wake:
            self._wake.wait_for(lambda: self._closing or self._flush or bool(self._items),
                                max(0.0, due - time.monotonic()))
            return not self._closing

    def _finish(self) -> None:
        self._write_items()
        self._write_frames()
        self._guarded(self._day.close_day)
        self._upkeep.close()

    def _write_items(self) -> None:
        with self._wake:
            batch = tuple(self._items)
        if batch and self._guarded(lambda: keep(self._database, batch)):
            self.stats.items += len(batch)
            self._events = (self._events + [pair for pair in batch if isinstance(pair[0], HostEvent)])[-QUEUE_ITEMS:]
            with self._wake:
                del self._items[: len(batch)]
                self._settled += len(batch)
                self._wake.notify_all()

    def _write_frames(self) -> None:
        batch = self.pending()
        if batch and not self._suspended(batch):
            for _, group in groupby(batch, key=lambda f: day_of(f.t_ns)):
                if not self._guarded(partial(self._commit, tuple(group))):
                    break
        self._guarded(lambda: self._upkeep.step(self._day, batch[-1].t_ns if batch else 0))

    def _commit(self, batch: tuple[Frame, ...]) -> None:
        """Commits frames of one day; only then do they leave the queue."""
        started, stats = time.monotonic(), self.stats
        events = [(item.t_ns, body) for item, body in self._events if isinstance(item, HostEvent)]
        stats.rows += self._day.write(batch, events)
        stats.batches += 1
        del self._events[: len(events)]
        self._forget(batch)
        self._day.tend(batch[-1].t_ns)
        took = time.monotonic() - started
        stats.seconds += took
        stats.slowest_seconds = max(stats.slowest_seconds, took)

    def _forget(self, batch: tuple[Frame, ...]) -> None:
        with self._wake:
            del self._frames[: len(batch)]
            self._settled += len(batch)
            self._wake.notify_all()

    def _suspended(self, batch: tuple[Frame, ...]) -> bool:
        """Whether the volume is too full for samples; then the batch is dropped, and that is said once."""
        free, need = self._free(self._database.directory), self._config.min_free_bytes
        if free >= need * (RESUME_FACTOR if self.stats.suspended else 1.0):
            if self.stats.suspended:
                LOG.warning("%s has room again; samples are written again", self._database.directory)
            self.stats.suspended = ""
            return False
        if not self.stats.suspended:
            LOG.warning("%s has %d MB left, less than store.min_free_bytes: no samples are written until there is more",
                        self._database.directory, free // 10**6)
        self.stats.suspended = f"{free // 10**6} MB free, {need // 10**6} MB needed"
        self._drop(batch)
        self._forget(batch)
        return True

    def _drop(self, frames: list[Frame] | tuple[Frame, ...]) -> None:
        self.stats.dropped_frames += len(frames)
        self.stats.dropped_rows += sum(len(f.values) for f in frames)

    def _guarded(self, action: Callable[[], object]) -> bool:
        """Runs one step; a failure is counted and told, the work stays queued, a dead instance is opened again."""
        try:
            action()
        except (duckdb.Error, StoreError, OSError) as error:
            text = str(error).split("\n", 1)[0]
            if text != self.stats.last_error:
                LOG.error("writing failed, will be tried again: %s", text)
            self.stats.failures += 1
            self.stats.last_error = text
            if isinstance(error, duckdb.Error) and is_fatal(error):
                self._guarded(self._database.reopen)
            return False
        return True
