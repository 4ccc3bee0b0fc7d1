"""Mounted file systems: how full, in bytes and in files, and whether they are still writable.

Reads:  /proc/self/mountinfo, statvfs(3) of each mount point
Emits:  filesystem_*{device,mount,type}; events filesystem_readonly
Needs:  -
Source: Documentation/filesystems/proc.rst, 3.5 "/proc/<pid>/mountinfo"; statvfs(3)

statvfs() hangs while the server of a network file system is away. Those are asked in a thread each; one that does not
answer in time reads as missing and is not asked again before it has. Numbers are those of df(1): used counts what is
reserved for root as neither used nor available. A device mounted several times is told once.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from threading import Thread

from collector.files import File, fault
from collector.mounts import Mount, parse_mountinfo, worth_following
from collector.table import NAN, Column, Table, emits, text
from etio.core.due import is_due
from etio.core.errors import Broken, NoData
from etio.core.event import HostEvent
from etio.core.frame import NS, Reading
from etio.core.ports import CollectorSpec
from etio.core.series import Series

_LABELS = ("device", "mount", "type")
SPACE = (
    Column("filesystem_used_ratio", "ratio", "gauge", "used over used plus available to ordinary users", _LABELS),
    Column("filesystem_available_bytes", "bytes", "gauge", "bytes ordinary users can still write", _LABELS),
    Column("filesystem_size_bytes", "bytes", "gauge", "size", _LABELS),
    Column("filesystem_readonly", "1", "gauge", "1 = mounted read-only, 0 = writable", _LABELS),
)
INODES = Column("filesystem_inodes_used_ratio", "ratio", "gauge", "inodes in use over all inodes", _LABELS)
LOOK_NS = 5 * NS
"""Mounts and remounts are announced; a file system that the kernel itself made read-only after an error is not, and
making the list takes 0.1 ms."""
Statvfs = Callable[[bytes], os.statvfs_result]


def space(stat: os.statvfs_result) -> tuple[list[float], float]:
    """([used ratio, available bytes, size in bytes], used ratio of inodes).

    The latter is NaN where inodes are not counted. Raises NoData for a file system without blocks.
    """
    if stat.f_blocks <= 0:
        raise NoData("no blocks")
    used = stat.f_blocks - stat.f_bfree
    reachable = used + stat.f_bavail
    ratio = used / reachable if reachable > 0 else 1.0
    inodes = 1.0 - stat.f_ffree / stat.f_files if stat.f_files > 0 else NAN
    return [ratio, float(stat.f_bavail * stat.f_frsize), float(stat.f_blocks * stat.f_frsize)], inodes


class Asker:
    """Asks statvfs() of mount points, those of network file systems with a deadline."""

    def __init__(self, statvfs: Statvfs, deadline_s: float) -> None:
        self._statvfs = statvfs
        self._deadline_s = deadline_s
        self._waiting: dict[bytes, Future[os.statvfs_result]] = {}

    def ask(self, path: bytes, may_hang: bool) -> os.statvfs_result:
        """Raises NoData (not there) or Broken (does not answer, or may not be looked into)."""
        try:
            return self._ask_apart(path) if may_hang else self._statvfs(path)
        except OSError as error:
            raise fault(text(path), error) from error
        except ValueError as error:  # a zero byte in the name
            raise Broken(f"{text(path)!r}: {error}") from error

    def _ask_apart(self, path: bytes) -> os.statvfs_result:
        future = self._waiting.get(path)
        deadline_s = 0.0  # one that kept us waiting before is only looked at
        if future is None:
            future, deadline_s = Future(), self._deadline_s
            self._waiting[path] = future
            Thread(target=self._answer, args=(path, future), name="etio-statvfs", daemon=True).start()
        if not wait([future], deadline_s).done:
            raise Broken(f"{text(path)}: statvfs() does not return; is its server away?")
        del self._waiting[path]
        return future.result()

    def _answer(self, path: bytes, future: "Future[os.statvfs_result]") -> None:
        try:
            future.set_result(self._statvfs(path))
        except (OSError, ValueError) as error:
            future.set_exception(error)


@dataclass(frozen=True, slots=True)
class Config:
    """max_mounts: how many mounts are followed at most over the daemon's life.
    skip_below: mount points below these folders are left out (containers and desktops mount there by the hundred).
    deadline_s: how long a network file system may take to answer."""

    max_mounts: int = 64
    skip_below: tuple[str, ...] = (
        "/proc", "/sys", "/run/credentials", "/run/user", "/run/docker", "/run/netns", "/snap", "/var/snap",
        "/var/lib/docker", "/var/lib/containers", "/var/lib/containerd", "/var/lib/kubelet/pods",
        "/run/containerd", "/run/containers",
    )
    deadline_s: float = 0.25


class Filesystems:
    """Collector of mounted file systems. `statvfs` is os.statvfs but for tests."""

    def __init__(self, config: Config, statvfs: Statvfs = os.statvfs) -> None:
        self._config = config
        self._asker = Asker(statvfs, config.deadline_s)
        self._table = Table()
        self._file: File | None = None
        self._raw = b""
        self._mounts: list[Mount] = []
        self._followed: set[tuple[str, str, str]] = set()
        self._told: dict[tuple[str, str, str], str] = {}
        self._readonly: dict[tuple[bytes, bytes], bool] = {}
        self._live = False
        self._until_ns = 0

    def open(self, root: Path) -> None:
        """Raises NoData or Broken."""
        self._file = File(root / "proc/self/mountinfo", long_lines=True)
        self._live = root == Path("/")
        self._until_ns = 0
        self._prefix = b"" if root == Path("/") else os.fsencode(root)

    def collect(self, t_ns: int) -> Reading:
        """One reading. Raises NoData or Broken."""
        if self._file is None:
            raise NoData("not open")
        self._table.start()
        events: tuple[HostEvent, ...] = ()
        if not self._live or is_due(t_ns, self._until_ns, LOOK_NS) or self._file.announced():
            self._until_ns = t_ns + LOOK_NS
            events = self._file.parse(lambda data: self._look(t_ns, data))
        return self._table.reading(events + tuple(self._put_all(t_ns)))

    def _put_all(self, t_ns: int) -> Iterator[HostEvent]:
        for mount in self._mounts:
            key = mount.labels
            if key not in self._followed and len(self._followed) >= self._config.max_mounts:
                continue
            self._followed.add(key)
            try:
                self._put(mount, key)
                self._told.pop(key, None)
            except NoData:
                continue
            except Broken as error:
                if self._told.get(key) != str(error):
                    self._told[key] = str(error)
                    yield HostEvent(t_ns, "collector_failed", "collector=filesystems", (("reason", str(error)),),
                                    "collector")

    def _look(self, t_ns: int, data: bytes) -> tuple[HostEvent, ...]:
        """Parses only when the mounts have changed."""
        if data == self._raw:
            return ()
        self._mounts = worth_following(parse_mountinfo(data), self._config.skip_below)
        self._raw = data
        return self._became_readonly(t_ns)

    def _became_readonly(self, t_ns: int) -> tuple[HostEvent, ...]:
        before, self._readonly = self._readonly, {m.identity: m.readonly for m in self._mounts}
        return tuple(
            HostEvent(t_ns, "filesystem_readonly", SPACE[0].series(*m.labels).entity, (("type", text(m.type)),),
                      "/proc/self/mountinfo")
            for m in self._mounts if m.readonly and before.get(m.identity) is False
        )

    def _put(self, mount: Mount, key: tuple[str, str, str]) -> None:
        values, inodes = space(self._asker.ask(self._prefix + mount.point, mount.may_hang))
        self._table.put(key, lambda: _series(key), [*values, float(mount.readonly)])
        if not isnan(inodes):
            self._table.put((*key, "inodes"), lambda: [INODES.series(*key)], [inodes])

    def close(self) -> None:
        """May be called twice."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _series(key: tuple[str, str, str]) -> list[Series]:
    return [c.series(*key) for c in SPACE]


COLLECTOR = CollectorSpec(
    name="filesystems", config=Config, build=Filesystems, reads="/proc/self/mountinfo, statvfs(3)",
    emits=emits((*SPACE, INODES)), source="Documentation/filesystems/proc.rst", period_s=1.0,
)
