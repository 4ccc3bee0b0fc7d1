"""Code of libraries is mapped page by page: a call brings the page it runs through, not the fifteen around it.

A fault on a file maps what of the surrounding 64 KiB is in the page cache, whoever needs it: of DuckDB, whose parser,
planner and operators are spread over 65 MB, this makes three times what a daemon needs that asks the same few things
each ten seconds. Linux leaves it out where a mapping is watched for writes by userfaultfd(2); asynchronous watching
(Linux 6.7) may be asked for on files, sends nothing to anybody, and read-only code is never written. Nothing else
changes, and where the kernel or a filter of system calls refuses, all stays as it is.
"""

import ctypes
import fcntl
import os
import platform
import struct
from collections.abc import Iterable

NUMBERS = {"x86_64": 323, "aarch64": 282}
"""Of userfaultfd; the C library has no function for it."""
USER_MODE_ONLY = 1
API, WP_ASYNC = 0xAA, 1 << 15
UFFDIO_API, UFFDIO_REGISTER = 0xC018AA3F, 0xC020AA00
MODE_WP = 1 << 1


class Pagewise:
    """Watches mappings as long as it lives. Each is registered once."""

    def __init__(self) -> None:
        self._fd = _opened()
        self._known: set[tuple[int, int]] = set()

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    @property
    def works(self) -> bool:
        """Whether this kernel knows how, and lets us."""
        return self._fd >= 0

    def add(self, spans: Iterable[tuple[int, int]]) -> int:
        """Registers (address, length) of read-only mappings of files; returns how many are new."""
        fresh = [span for span in spans if span not in self._known] if self.works else []
        self._known.update(fresh)
        for start, length in fresh:
            try:
                fcntl.ioctl(self._fd, UFFDIO_REGISTER, struct.pack("QQQQ", start, length, MODE_WP, 0))
            except OSError:
                continue  # a mapping of a kind that the kernel does not watch
        return len(fresh)


def _opened() -> int:
    """A descriptor for asynchronous watching, or -1."""
    number = NUMBERS.get(platform.machine())
    if number is None:
        return -1
    fd = int(ctypes.CDLL(None).syscall(number, os.O_CLOEXEC | USER_MODE_ONLY))
    if fd < 0:
        return -1
    try:
        fcntl.ioctl(fd, UFFDIO_API, struct.pack("QQQ", API, WP_ASYNC, 0))
    except OSError:
        os.close(fd)
        return -1
    return fd
