"""Who fills a file system: whose files are open for writing there; else who writes most on the whole host.

The daemon puts one fact for each file system that an alert speaks of into Facts.extra (collector.mount_writers).
"""

import re
from dataclasses import dataclass

from etio.core.report import Culprit
from rca.culprits import TABLES, describe, fact, numbered
from rca.scene import Scene
from rca.spec import Blame
from rca.units import clean, humanise

BUSY = 65536.0
"""Bytes a second; who writes less is not worth a word."""
LARGE = 0.05
"""Part of a file system that a file takes, from which on it is worth a word whether or not it grows now."""
_LINE = re.compile(r"(\d{1,10}) (\d{1,20}) ([01]) (.*)")


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file that is open for writing. size: bytes it takes on its file system."""

    pid: int
    size: float
    deleted: bool
    path: str


def open_there(scene: Scene, mount: str) -> list[OpenFile] | None:
    """Files open for writing on a file system, the largest first; None where nobody could look."""
    told = dict(scene.facts.extra).get(f"writers mount={mount}")
    if told is None:
        return None
    lines = [found for line in told.split("\n") if (found := _LINE.fullmatch(line))]
    return [OpenFile(int(f[1]), float(f[2]), f[3] == "1", f[4]) for f in lines]


def mount_and_writer(scene: Scene, entity: str) -> Blame | None:
    """The file system, with who has its files open for writing; else who writes most on the host meanwhile (which need
    not be this file system)."""
    whose = f"It is the file system {clean(entity)}"
    files = open_there(scene, entity)
    short = _inodes_are_short(scene, entity)  # whoever makes many small files need not have a large one open
    one = None if short else _filling(scene, entity, files or [])
    if one is not None:
        claim = f"{whose}; {_told(scene, one)}"
        return _blame(scene, entity, claim, one.pid, "open files of all processes", one.size)
    if files == [] and dict(scene.facts.extra)[f"writers mount={entity}"]:
        return _blame(scene, entity, f"{whose}, which is not mounted any more", 0, "/proc/self/mountinfo")
    writers = scene.census.ranked("write_bytes")
    rate = writers[0].total("write_bytes") if writers else 0.0
    if rate > BUSY and not short and not _in_memory(scene, entity):
        claim = f"{whose}; the biggest writer on the host is {describe(writers[0])} with {humanise(rate, 'bytes/s')}"
        return _blame(scene, entity, claim, writers[0].pid, TABLES)
    return _blame(scene, entity, whose, 0, "statvfs")


def _blame(scene: Scene, entity: str, claim: str, pid: int, source: str, value: float = float("nan")) -> Blame:
    unit = "bytes" if value == value else ""  # noqa: PLR0124  # NaN: there is no number
    evidence = fact(claim, scene, value, unit, source)
    group = "statvfs" if source == "statvfs" else "processes"
    return Blame(Culprit("filesystem", clean(entity, 200), pid, claim=claim), evidence, group)


def _filling(scene: Scene, mount: str, files: list[OpenFile]) -> OpenFile | None:
    """The largest file of the process that writes most of those with files open there; else one that is large."""
    if not files:
        return None
    pids = {one.pid for one in files}
    busy = [g for g in scene.census.ranked("write_bytes", lambda p: p.pid in pids) if g.total("write_bytes") > BUSY]
    busiest = {m.process.pid for m in busy[0].members} if busy else set()
    size = scene.value("filesystem_size_bytes", "mount", mount)
    return next((one for one in files if one.pid in busiest), None) or next(
        (one for one in files if one.size >= LARGE * size), None)


def _told(scene: Scene, one: OpenFile) -> str:
    group = next((g for g in scene.census.groups if any(m.process.pid == one.pid for m in g.members)), None)
    process = scene.census.process(one.pid)
    who = describe(group) if group else f"{clean(process.comm, 40)} ({numbered(one.pid)})" if process else (
        numbered(one.pid))
    gone = ", which is deleted: its space is free when it is closed" if one.deleted else ""
    return f"{who} has {clean(one.path, 120)} open for writing there, {humanise(one.size, 'bytes')}{gone}"


def _in_memory(scene: Scene, mount: str) -> bool:
    """Whether who writes to disks cannot be who fills it."""
    return any(m.series.label("type") in ("tmpfs", "ramfs")
               for m in scene.measures("filesystem_used_ratio", "mount", mount))


def _inodes_are_short(scene: Scene, mount: str) -> bool:
    """Whether it is inodes that are used up, and not space."""
    used = scene.value("filesystem_used_ratio", "mount", mount)
    return scene.value("filesystem_inodes_used_ratio", "mount", mount) >= 0.9 and used < 0.9
