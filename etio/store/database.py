"""One DuckDB instance for the process: opening, setting aside what is broken, lending cursors, attaching day files.

Two rules hold everything together. Nobody in this process opens a database file by other means: closing any
descriptor of a file drops the POSIX locks of the whole process on it. And a day file is only replaced or unlinked
inside detached(), which waits for its readers and keeps new ones out.
"""

import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Condition

from etio.core.errors import StoreError
from etio.store import days, schema
from etio.store.config import StoreConfig
from etio.store.duck import duckdb
from etio.store.faults import explained, is_damage, is_fatal

LOG = logging.getLogger("etio.store")
IDLE_ATTACHED = 4
"""Closed day files that stay attached after their last reader left."""
WAIT_S = 15.0


class Database:
    """The instance, thread-safe. `set_aside` counts what was quarantined: "wal" and "file"."""

    def __init__(self, config: StoreConfig) -> None:
        """Opens or creates the files. Raises StoreError with one line and a remedy."""
        self.config = config
        self.directory = Path(config.directory)
        self.set_aside: Counter[str] = Counter()
        self.generation = 0
        self._lock = Condition()
        self._attached: dict[str, bool] = {}
        """Name to whether it is writable; in order of last use."""
        self._readers: Counter[str] = Counter()
        self._lent = 0
        self._writer: duckdb.DuckDBPyConnection | None = None
        self._root = self._open()

    def _open(self) -> duckdb.DuckDBPyConnection:
        try:
            root = connect(self.directory, self.config.memory_limit_mb)
        except duckdb.Error as error:
            raise explained(error, self.directory) from error
        self._root = root
        try:
            self._attach(schema.MAIN, writable=True)
            self._replay_closed_days()
        except StoreError:
            root.close()
            raise
        return root

    def _replay_closed_days(self) -> None:
        """Logs that a kill left beside day files are replayed once, so that the files can be read without them."""
        for file in days.listing(self.directory):
            if any(days.siblings(days.path_of(self.directory, file.name))):
                self._attach(file.name, writable=True)
                self._detach(file.name)

    def writer_cursor(self) -> duckdb.DuckDBPyConnection:
        """The cursor of the writer thread; another one after reopen()."""
        with self._lock:
            if self._writer is None:
                self._writer = self._root.cursor()
            return self._writer

    @contextmanager
    def reading(self, names: Sequence[str] = ()) -> Iterator[tuple[duckdb.DuckDBPyConnection, tuple[str, ...]]]:
        """A cursor with these day files attached, and the names of those that exist.

        Raises StoreError for anything DuckDB cannot do inside the block.
        """
        present: tuple[str, ...] = ()
        try:
            with self._lock:
                present = tuple(name for name in names if self._borrow(name))
                cursor = self._root.cursor()
                self._lent += 1
            try:
                yield cursor, present
            finally:
                cursor.close()
                with self._lock:
                    self._lent -= 1
        except duckdb.Error as error:
            raise explained(error, self.directory) from error
        finally:
            self._give_back(present)

    def _give_back(self, names: tuple[str, ...]) -> None:
        with self._lock:
            self._readers.subtract(names)
            self.detach_idle()
            self._lock.notify_all()

    def _borrow(self, name: str) -> bool:
        if not days.path_of(self.directory, name).exists():
            return False
        if name not in self._attached:
            try:
                self._attach(name, writable=False)
            except StoreError as error:
                LOG.warning("%s is left out: %s", name, error)
                return False
        self._attached[name] = self._attached.pop(name)
        self._readers[name] += 1
        return name in self._attached

    def write_to(self, name: str) -> None:
        """Attaches a day file for writing, creating it if need be. Raises StoreError."""
        with self._lock:
            if self._attached.get(name):
                return
            with self._released(name):
                self._attach(name, writable=True)

    @contextmanager
    def detached(self, name: str) -> Iterator[None]:
        """Closes a file for the length of the block and keeps readers out. Raises StoreError when readers stay on."""
        with self._lock, self._released(name):
            yield

    @contextmanager
    def _released(self, name: str) -> Iterator[None]:
        if not self._lock.wait_for(lambda: self._readers[name] <= 0, WAIT_S):
            raise StoreError(f"{name} is still being read after {WAIT_S:.0f} s")
        if name in self._attached:
            self._detach(name)
        yield

    def _attach(self, name: str, writable: bool) -> None:
        path = days.path_of(self.directory, name)
        mode = "STORAGE_VERSION 'v1.5.0'" if writable else "READ_ONLY"
        for _ in range(3):
            try:
                if writable and not path.exists():
                    self._create(name, path)
                self._root.execute(f"ATTACH '{quoted(path)}' AS {name} ({mode})")
                if writable:
                    self._root.execute(schema.of(name))
                    self._root.execute(f"CHECKPOINT {name}")
                self._attached[name] = writable
                return
            except duckdb.Error as error:
                self._forget(name)
                if not is_damage(error) or not self._quarantine(path, error):
                    raise explained(error, path) from error
                if not writable and not path.exists():
                    break
        raise StoreError(f"{path}: cannot be opened even after setting it aside; look at the folder's other files")

    def _create(self, name: str, path: Path) -> None:
        """Makes the file aside and moves it into place whole: a kill in between leaves no half-written file."""
        born = path.with_name(f".{path.name}.born")
        for rest in (born, days.wal_of(born)):
            rest.unlink(missing_ok=True)
        self._root.execute(f"ATTACH '{quoted(born)}' AS {name} (STORAGE_VERSION 'v1.5.0')")
        self._root.execute(schema.of(name))
        self._root.execute(f"CHECKPOINT {name}")
        self._root.execute(f"DETACH {name}")
        born.rename(path)

    def _forget(self, name: str) -> None:
        """Takes back what a failed ATTACH may have left."""
        try:
            self._root.execute(f"DETACH DATABASE IF EXISTS {name}")
        except duckdb.Error as error:
            LOG.debug("detach %s: %s", name, error)

    def _quarantine(self, path: Path, error: duckdb.Error) -> bool:
        """Renames the log, or the file where there is no log. False when nothing is left to set aside."""
        logs = list(days.siblings(path))
        if not logs and isinstance(error, duckdb.OutOfMemoryException):
            return False
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        for part in logs or [path]:
            if not part.exists():
                return False
            aside = _unused(part.with_name(f"{part.name}.corrupt-{stamp}"))
            part.rename(aside)
            self.set_aside["wal" if logs else "file"] += 1
            LOG.warning("%s could not be read (%s) and was set aside as %s", part, _first_line(error), aside.name)
        return True

    def _detach(self, name: str) -> None:
        self._root.execute(f"DETACH {name}")
        del self._attached[name]

    def detach_idle(self, keep: int = IDLE_ATTACHED) -> None:
        """Closes all but the `keep` day files that were read last, of those that nobody reads."""
        with self._lock:
            idle = [n for n, writable in self._attached.items() if not writable and self._readers[n] <= 0]
            for name in idle[: max(0, len(idle) - keep)]:
                self._detach(name)

    def opened_again(self, name: str) -> bool:
        """Closes a file that is written to and opens it again: nothing of it stays in memory. False, and nothing done,
        while somebody reads it. Raises StoreError or duckdb.Error."""
        with self._lock:
            if self._readers[name] > 0:
                return False
            self._detach(name)
            self._attach(name, writable=True)
            return True

    def checkpoint(self, name: str, force: bool = False) -> bool:
        """Moves the log into the file; writer thread only. False when a running transaction stood in the way."""
        try:
            self.writer_cursor().execute(f"{'FORCE ' if force else ''}CHECKPOINT {name}")
        except duckdb.Error as error:
            if is_fatal(error):
                raise
            return False
        return True

    def reopen(self) -> None:
        """After a fatal error: a fresh instance on the same files. Raises StoreError while that is not possible."""
        with self._lock:
            if not self._lock.wait_for(lambda: self._lent == 0, WAIT_S):
                raise StoreError(f"{self.directory}: still being read after {WAIT_S:.0f} s, cannot be opened again")
            self._close_all()
            self._root = self._open()
            self.generation += 1

    def _close_all(self) -> None:
        for connection in (self._writer, self._root):
            try:
                if connection is not None:
                    connection.close()
            except duckdb.Error as error:
                LOG.warning("closing: %s", _first_line(error))
        self._writer = None
        self._attached.clear()

    def close(self) -> None:
        """Checkpoints and closes everything; may be called twice."""
        with self._lock:
            for name in list(self._attached):
                try:
                    self._root.execute(f"DETACH {name}")
                except duckdb.Error as error:
                    LOG.warning("closing %s: %s", name, _first_line(error))
            self._close_all()


def connect(directory: Path, memory_limit_mb: int) -> duckdb.DuckDBPyConnection:
    """An in-memory instance that may touch nothing but `directory` and can no longer be configured."""
    connection = duckdb.connect(
        ":memory:",
        config={
            "memory_limit": f"{memory_limit_mb}MB",
            "threads": 1,
            # What the log holds is in the buffers as well: a log of 16 MB, the default, fills a small limit.
            "checkpoint_threshold": f"{memory_limit_mb // 6}MB",
            "temp_directory": str(directory / "tmp"),
            "max_temp_directory_size": "2GB",
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "python_enable_replacements": False,
        },
    )
    connection.execute(f"SET allowed_directories=['{quoted(directory)}']")
    connection.execute("SET enable_external_access=false")
    connection.execute("SET lock_configuration=true")
    return connection


def quoted(path: Path) -> str:
    """A path inside single quotes of SQL."""
    return str(path).replace("'", "''")


def _unused(path: Path) -> Path:
    """`path`, or the first numbered variant of it that does not exist."""
    n, candidate = 1, path
    while candidate.exists():
        n, candidate = n + 1, path.with_name(f"{path.name}.{n}")
    return candidate


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0][:200]
