"""The store as one thing: opened, wired, closed; and the small snapshots that detectors keep."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from etio.store import days
from etio.store.config import StoreConfig
from etio.store.database import Database
from etio.store.faults import explained, prepare_directory
from etio.store.history import DuckArchive
from etio.store.outbox import Outbox
from etio.store.writer import Writer, free_bytes

_STATE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")


@dataclass(frozen=True, slots=True)
class StoreStats:
    """For `etio status` and /metrics; see WriterStats for the writer's own.

    bytes: of all database files; free_bytes: of the volume; days: day files of either kind;
    set_aside_wals, set_aside_files: quarantined since start.
    """

    bytes: int
    free_bytes: int
    days: int
    queued_frames: int
    set_aside_wals: int
    set_aside_files: int


@dataclass(frozen=True, slots=True)
class Store:
    """Everything of the store that the daemon hands out."""

    config: StoreConfig
    database: Database
    writer: Writer
    archive: DuckArchive
    outbox: Outbox

    def save_state(self, name: str, data: bytes) -> None:
        """Keeps a small snapshot, replacing the older one at once. Raises StoreError, ValueError for a bad name."""
        path = self._state_path(name)
        part = path.with_name(path.name + ".part")
        try:
            path.parent.mkdir(exist_ok=True)
            with part.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError as error:
            raise explained(error, path) from error

    def load_state(self, name: str) -> bytes | None:
        """The snapshot of that name; None where there is none. Raises StoreError when it cannot be read."""
        path = self._state_path(name)
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise explained(error, path) from error

    def _state_path(self, name: str) -> Path:
        if not _STATE_NAME.fullmatch(name) or name.startswith("."):
            raise ValueError(f"{name!r} is no name for a snapshot")
        return self.database.directory / "state" / name

    def stats(self) -> StoreStats:
        """Sizes and counts now."""
        directory, aside = self.database.directory, self.database.set_aside
        files = days.listing(directory)
        kept = days.path_of(directory, "etio").stat().st_size
        return StoreStats(sum(f.bytes for f in files) + kept, free_bytes(directory), len(files),
                          len(self.writer.pending()), aside["wal"], aside["file"])

    def close(self) -> None:
        """Writes what waits, checkpoints, closes; may be called twice."""
        self.writer.close()
        self.database.close()


def open_store(config: StoreConfig) -> Store:
    """Opens or creates the store. Raises StoreError with one line and its remedy."""
    directory = Path(config.directory)
    prepare_directory(directory)
    database = Database(config)
    writer = Writer(database, config)
    return Store(config, database, writer, DuckArchive(database, writer, config), Outbox(database))


