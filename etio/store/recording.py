"""Frames and host events of the past, for `etio replay`: out of a day file, a state folder, or a .npz recording."""

import heapq
import json
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etio.core.codec import dumps, from_plain, loads, to_plain
from etio.core.errors import Broken, EtioError
from etio.core.event import HostEvent
from etio.core.frame import Frame
from etio.core.series import Series
from etio.store import days
from etio.store.batch import revived
from etio.store.database import connect, quoted
from etio.store.duck import duckdb
from etio.store.faults import explained

TICKS_AT_ONCE = 600
_UNREADABLE = (OSError, ValueError, TypeError, LookupError, EOFError, RuntimeError, MemoryError, OverflowError,
               struct.error, zlib.error, zipfile.BadZipFile, EtioError)
"""What numpy and zipfile raise on damaged archives, by trial."""


def record(path: Path, frames: Iterable[Frame], events: Iterable[HostEvent] = ()) -> int:
    """Writes a recording that carries everything replay() needs; returns the number of frames. Raises OSError.

    t_ns int64[k]; values float32[k, n], NaN = no value; width int64[k]: length of the catalogue at each frame;
    series and events: JSON in bytes.
    """
    kept = list(frames)
    catalogue = max((f.series for f in kept), key=len, default=())
    values = np.full((len(kept), len(catalogue)), np.nan, dtype=np.float32)
    for row, frame in enumerate(kept):
        values[row, : len(frame.values)] = frame.values
    with path.open("wb") as file:
        np.savez_compressed(
            file,
            t_ns=np.array([f.t_ns for f in kept], dtype=np.int64),
            values=values,
            width=np.array([len(f.values) for f in kept], dtype=np.int64),
            series=_json_bytes([to_plain(s) for s in catalogue]),
            events=_json_bytes([to_plain(e) for e in events]),
        )
    return len(kept)


def replay(path: Path) -> Iterator[Frame | HostEvent]:
    """Frames and events in the order of their time; an event comes before the frame of its tick.

    path: a .npz of record(), a day file, or a folder of day files. Raises Broken for what is none of these or damaged,
    StoreError for what a running daemon holds.
    """
    if path.is_dir():
        files = [days.path_of(path, f.name) for f in days.listing(path) if f.raw]
        if not files:
            raise Broken(f"{path}: no day files (dYYYYMMDD{days.SUFFIX}) in this folder")
        for file in files:
            yield from _replay_day(file)
    elif path.suffix == ".npz":
        yield from _replay_npz(path)
    elif path.exists():
        yield from _replay_day(path)
    else:
        raise Broken(f"{path}: no such file; give a recording (.npz), a day file or a folder of day files")


def _replay_npz(path: Path) -> Iterator[Frame | HostEvent]:
    try:
        with np.load(path, allow_pickle=False) as data:
            arrays = {name: data[name] for name in ("t_ns", "values", "width", "series", "events")}
        frames = _frames_of(arrays)
        events = [from_plain(HostEvent, e) for e in json.loads(arrays["events"].tobytes())]
    except _UNREADABLE as error:
        raise Broken(f"{path}: no recording of etio: {error}") from error
    yield from _merged(frames, events)


def _frames_of(arrays: dict[str, NDArray[Any]]) -> list[Frame]:
    series = tuple(from_plain(Series, s) for s in json.loads(arrays["series"].tobytes()))
    t_ns, width, values = arrays["t_ns"], arrays["width"], arrays["values"]
    if values.shape != (len(t_ns), len(series)) or len(width) != len(t_ns) or t_ns.dtype != np.int64:
        raise ValueError("its arrays do not fit together")
    if width.dtype != np.int64 or (len(width) and not 0 <= width.min() <= width.max() <= len(series)):
        raise ValueError("its widths do not fit its series")
    return list(_rows(series, t_ns, width, values.astype(np.float64)))


def _rows(series: tuple[Series, ...], t_ns: NDArray[Any], width: NDArray[Any], values: NDArray[Any]
          ) -> Iterator[Frame]:
    """Frames that share one tuple of series as long as the catalogue does not grow."""
    cut = series[:0]
    for t, n, row in zip(t_ns.tolist(), width.tolist(), values, strict=True):
        if n != len(cut):
            cut = series[:n]
        yield Frame(t, cut, row[:n].copy())


def _replay_day(path: Path) -> Iterator[Frame | HostEvent]:
    connection = connect(path.resolve().parent, 64)
    try:
        connection.execute(f"ATTACH '{quoted(path.resolve())}' AS day (READ_ONLY)")
        events = [loads(HostEvent, row[0]) for row in connection.execute("SELECT body FROM day.events").fetchall()]
        yield from _merged(_day_frames(connection), events)
    except duckdb.CatalogException as error:
        raise Broken(f"{path}: no day file of etio: {error}") from error
    except duckdb.Error as error:
        raise explained(error, path) from error
    finally:
        connection.close()


def _day_frames(connection: duckdb.DuckDBPyConnection) -> Iterator[Frame]:
    rows = connection.execute("SELECT first, name, unit, kind, labels FROM day.series ORDER BY id").fetchall()
    series = tuple(revived(*row[1:]) for row in rows)
    first = np.array([row[0] for row in rows], dtype=np.int64)
    got = connection.execute("SELECT tick, t_ns FROM day.frames ORDER BY tick").fetchnumpy()
    tick, t_ns = np.asarray(got["tick"]).astype(np.int64), np.asarray(got["t_ns"])
    width = np.searchsorted(first, tick, side="right")
    for start in range(0, len(tick), TICKS_AT_ONCE):
        part = slice(start, start + TICKS_AT_ONCE)
        yield from _rows(series, t_ns[part], width[part], _values(connection, tick[part], len(series)))


def _values(connection: duckdb.DuckDBPyConnection, tick: NDArray[np.int64], series: int) -> NDArray[np.float64]:
    got = connection.execute("SELECT series, tick, value FROM day.samples WHERE tick BETWEEN ? AND ?",
                             [int(tick[0]), int(tick[-1])]).fetchnumpy()
    values = np.full((len(tick), series), np.nan)
    values[np.searchsorted(tick, np.asarray(got["tick"])), np.asarray(got["series"])] = np.asarray(got["value"])
    return values


def _merged(frames: Iterable[Frame], events: Sequence[HostEvent]) -> Iterator[Frame | HostEvent]:
    """Events fall in before the first frame that is not earlier than they are; frames keep their own order."""
    waiting = [(e.t_ns, i, e) for i, e in enumerate(events)]
    heapq.heapify(waiting)
    for frame in frames:
        while waiting and waiting[0][0] <= frame.t_ns:
            yield heapq.heappop(waiting)[2]
        yield frame
    while waiting:
        yield heapq.heappop(waiting)[2]


def _json_bytes(value: Any) -> NDArray[np.uint8]:
    return np.frombuffer(dumps(value).encode(), dtype=np.uint8)
