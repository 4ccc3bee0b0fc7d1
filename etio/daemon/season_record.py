"""Seasons kept beside the day files, so that a replay knows what the detectors knew at that moment."""

import gzip
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from etio.core.errors import Broken
from etio.core.event import Event, FrameReady, SeasonsReady
from etio.core.frame import Frame
from etio.daemon.season_worker import plain, season_of

FOLDER = "seasons"
KEPT = 30
"""Files kept: a month of daily looks, below 1 MB each."""
_NAME = re.compile(r"(\d{1,19})\.json\.gz")


def keep(folder: Path, event: SeasonsReady) -> None:
    """Writes what was found and removes what is too old. Raises OSError."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{event.t_ns}.json.gz"
    fresh = path.with_suffix(".new")
    fresh.write_bytes(gzip.compress(json.dumps([plain(one) for one in event.seasons]).encode(), 6))
    os.replace(fresh, path)
    for old in _files(folder)[:-KEPT]:
        old.unlink()


def kept(folder: Path) -> list[SeasonsReady]:
    """What keep() wrote, oldest first; nothing where there is no such folder. Raises Broken where a file is damaged."""
    found = []
    for path in _files(folder):
        try:
            rows = json.loads(gzip.decompress(path.read_bytes()))
            seasons = tuple(one for row in rows if (one := season_of(json.dumps(row).encode())) is not None)
        except (OSError, EOFError, ValueError, TypeError, zlib.error) as error:
            raise Broken(f"{path}: no seasons of etio: {error}") from error
        found.append(SeasonsReady(int(path.name.split(".")[0]), seasons))
    return found


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted((p for p in folder.iterdir() if _NAME.fullmatch(p.name)), key=lambda p: int(p.name.split(".")[0]))


def with_seasons(items: Iterable[Frame | Event], seasons: Iterable[SeasonsReady]) -> Iterator[Frame | Event]:
    """Items in their order, and seasons before the first of them that is not earlier."""
    waiting = sorted(seasons, key=lambda one: one.t_ns)
    for item in items:
        t_ns = item.frame.t_ns if isinstance(item, FrameReady) else item.t_ns
        while waiting and waiting[0].t_ns <= t_ns:
            yield waiting.pop(0)
        yield item
