"""Files of /proc and /sys: opened once, read again and again from offset 0, failing only with typed errors."""

import errno
import os
import select
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from etio.core.errors import Broken, NoData
from etio.core.event import HostEvent

T = TypeVar("T")
Text = bytes | NoData | Broken | None
"""What a file of Sources held, why it could not be read, or None where there is no such file."""
ROOM = 4096
"""Bytes asked for at first. A read of a sysctl allocates what is asked for, so this starts small and grows."""
SHORT = 2048
"""The kernel fills a page (4096 bytes or more) with whole lines, so a read that is shorter than this, of a file whose
lines are shorter than this, was the last."""
LIMIT = 16 << 20
"""No file of the kernel that is read here comes near this size; what does is not one of them."""
ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EOPNOTSUPP, errno.ENODEV, errno.ENXIO})
"""Not here, switched off (EOPNOTSUPP: PSI), or gone (ENODEV: a device that was pulled)."""
RETRY_READINGS = 60
"""A file that was absent is looked for again this often: modules such as nf_conntrack load late."""


def fault(path: Path | str, error: OSError) -> NoData | Broken:
    """The typed error for an OSError at `path`."""
    text = f"{path}: {os.strerror(error.errno or 0)}"
    return NoData(text) if error.errno in ABSENT else Broken(text)


class File:
    """One file, kept open. The kernel makes its content anew at each read from offset 0."""

    __slots__ = ("_fd", "_room", "_short", "path")

    def __init__(self, path: Path, long_lines: bool = False) -> None:
        """long_lines: a line may be longer than SHORT bytes.

        Raises NoData (not here) or Broken (may not be read), naming the path.
        """
        self._fd = -1
        self._short = 1 if long_lines else SHORT
        self._room = ROOM
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise fault(path, error) from error
        except ValueError as error:  # a zero byte in a name
            raise Broken(f"{str(path)!r}: {error}") from error

    def read(self) -> bytes:
        """The whole content now. Raises NoData (the thing is gone or switched off) or Broken."""
        try:
            data = os.pread(self._fd, self._room, 0)
            return data if len(data) < self._short else self._read_on(data)
        except OSError as error:
            raise fault(self.path, error) from error

    def _read_on(self, data: bytes) -> bytes:
        """Some files come a page at a time, so only an empty read is the end."""
        chunk = data
        while chunk and len(data) < LIMIT:
            chunk = os.pread(self._fd, self._room, len(data))
            data += chunk
        if chunk:
            raise Broken(f"{self.path}: larger than {LIMIT} bytes")
        if len(data) >= self._room:
            self._room = 2 * len(data)
        return data

    def announced(self) -> bool:
        """Whether the kernel says that it has changed since this was last asked; only some files of /proc can tell."""
        poll = select.poll()
        poll.register(self._fd, select.POLLPRI)
        return bool(poll.poll(0))

    def parse(self, parser: Callable[[bytes], T]) -> T:
        """What `parser` makes of the content now. Raises NoData or Broken, naming the path."""
        return self.made(self.read(), parser)

    def made(self, data: bytes, parser: Callable[[bytes], T]) -> T:
        """What `parser` makes of what was read before. Raises NoData or Broken, naming the path."""
        try:
            return parser(data)
        except NoData as error:
            raise NoData(f"{self.path}: {error}") from error
        except Broken as error:
            raise Broken(f"{self.path}: {error}") from error

    def close(self) -> None:
        """May be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        self.close()


def read_once(path: Path) -> bytes:
    """Content of a file that is not worth keeping open. Raises NoData or Broken."""
    file = File(path)
    try:
        return file.read()
    finally:
        file.close()


class Sources:
    """Several files of one collector, each of which may be missing or odd without hurting the others.

    A file that breaks is told once, as a HostEvent "collector_failed" that names it; one that is simply not there is
    no event. Only when nothing at all can be read the collector as a whole has no data.
    """

    def __init__(self, collector: str, root: Path, paths: Sequence[str]) -> None:
        """Raises NoData or Broken when none of the files can be opened."""
        self._collector = collector
        self._paths = [root / p for p in paths]
        self._files: list[File | None] = [None] * len(paths)
        self.problems: dict[int, NoData | Broken] = {}
        self._told: dict[int, str] = {}
        self._readings = 0
        for i in range(len(paths)):
            self._open(i)
        if len(self.problems) == len(paths):
            raise self._worst()

    def _open(self, i: int) -> None:
        try:
            self._files[i] = File(self._paths[i])
        except (NoData, Broken) as error:
            self.problems[i] = error

    def parse(self, i: int, parser: Callable[[bytes], T]) -> T | None:
        """What `parser` makes of file i; None (and the reason kept in `problems`) where it cannot."""
        return self.made(i, self.read(i), parser)

    def read(self, i: int) -> Text:
        """The content of file i now, or why there is none, for made()."""
        file = self._files[i]
        if file is None:
            return None
        try:
            return file.read()
        except (NoData, Broken) as error:
            return error

    def made(self, i: int, data: Text, parser: Callable[[bytes], T]) -> T | None:
        """As parse(), of what was read before."""
        file = self._files[i]
        if data is None or file is None:
            return None
        try:
            if not isinstance(data, bytes):
                raise data
            value = file.made(data, parser)
        except (NoData, Broken) as error:
            self.problems[i] = error
            return None
        if self.problems:
            self.problems.pop(i, None)
            self._told.pop(i, None)
        return value

    def has(self, i: int) -> bool:
        """Whether file i was there to be opened."""
        return self._files[i] is not None

    def events(self, t_ns: int) -> tuple[HostEvent, ...]:
        """Call once after each reading: what broke since the last time. Raises when nothing could be read at all."""
        self._readings += 1
        if not self.problems:
            return ()
        if len(self.problems) == len(self._paths):
            raise self._worst()
        if self._readings % RETRY_READINGS == 0:
            for i in [i for i in self.problems if self._files[i] is None]:
                self._open(i)
        return tuple(self._tell(t_ns))

    def _tell(self, t_ns: int) -> list[HostEvent]:
        events = []
        for i, error in self.problems.items():
            if isinstance(error, Broken) and self._told.get(i) != str(error):
                self._told[i] = str(error)
                fields = (("path", str(self._paths[i])), ("reason", str(error)))
                events.append(HostEvent(t_ns, "collector_failed", f"collector={self._collector}", fields, "collector"))
        return events

    def _worst(self) -> NoData | Broken:
        return next((e for e in self.problems.values() if isinstance(e, Broken)), next(iter(self.problems.values())))

    def close(self) -> None:
        """May be called twice."""
        for file in self._files:
            if file is not None:
                file.close()
