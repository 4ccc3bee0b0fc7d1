"""What a DuckDB error means, and what a person can do about it."""

import os
import re
from pathlib import Path

from etio.core.errors import StoreError
from etio.store.duck import duckdb

_HELD = re.compile(r"Conflicting lock is held in (.+?) \(PID (\d+)\)")
_TRANSIENT = ("Could not set lock", "Permission denied", "Read-only file system", "No space left",
              "Too many open files", "file handle conflict", "already attached", "already exists")
_FATAL = ("has been invalidated", "Connection already closed", "Connection has been closed")


def is_fatal(error: duckdb.Error) -> bool:
    """Whether the instance is of no use any more and has to be opened again."""
    return isinstance(error, duckdb.FatalException) or any(text in str(error) for text in _FATAL)


def is_damage(error: duckdb.Error) -> bool:
    """Whether the file or its log is at fault, rather than the surroundings."""
    return not any(text in str(error) for text in _TRANSIENT)


def explained(error: Exception, path: Path) -> StoreError:
    """One line with the place and the remedy."""
    text = str(error)
    if held := _HELD.search(text):
        return StoreError(f"{path}: in use by process {held[2]} ({held[1]}); stop it, or ask the running daemon")
    if "Could not set lock" in text:
        return StoreError(f"{path}: in use by another process; stop it, or ask the running daemon")
    if "No space left" in text:
        return StoreError(f"{path}: the volume is full; free some space or lower store.max_bytes")
    if "Read-only file system" in text:
        return StoreError(f"{path}: the file system is read-only; remount it or choose another store.directory")
    if "Permission denied" in text:
        return StoreError(f"{path}: no permission for user {os.geteuid()}; change its owner or store.directory")
    return StoreError(f"{path}: {text.splitlines()[0][:300] if text else type(error).__name__}")


def prepare_directory(directory: Path) -> None:
    """Makes the state folder and its folder for temporary files. Raises StoreError when that, or writing, fails."""
    try:
        (directory / "tmp").mkdir(parents=True, exist_ok=True)
        probe = directory / f".probe-{os.getpid()}"
        probe.write_bytes(b"etio")
        probe.unlink()
    except NotADirectoryError as error:
        raise StoreError(f"{directory}: not a folder; choose another store.directory") from error
    except OSError as error:
        raise explained(error, directory) from error
