"""The warden's reader of NVMe health logs: SMART / Health Information (log 02h), 512 bytes of each controller.

Part of the warden: standard library only, no import that costs memory. It asks the controllers that the kernel lists in
/sys/class/nvme, by their own device nodes, and sends them one command that changes nothing: Get Log Page.
Source: NVM Express Base Specification 2.0, Get Log Page; linux/nvme_ioctl.h

A controller that is dying may not answer; the driver then waits for up to a minute before it resets it, and a shorter
limit of ours would only bring the reset forward. So each question is asked in a thread, and one that has not come back
is left to itself: the warden has others to serve.
"""

from __future__ import annotations

import _thread
import ctypes
import fcntl
import os
import re
import stat
import struct
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    Row = tuple[str, str, str]

CLASS = "/sys/class/nvme"
LOG_BYTES = 512
MOST = 64
"""Most controllers that are asked in one look."""
HANGING = 4
"""Most questions without an answer; while there are so many nobody else is asked."""
ALONE_S, TOGETHER_S = 0.5, 2.0
"""So long one look waits for one controller, and for all of them."""
_ADMIN_COMMAND = 0xC0484E41  # _IOWR('N', 0x41, struct nvme_admin_cmd)
_GET_LOG_PAGE, _SMART, _ALL_NAMESPACES = 0x02, 0x02, 0xFFFFFFFF
_NAME = re.compile(r"nvme\d{1,5}")


def command(address: int, size: int) -> bytearray:
    """struct nvme_admin_cmd: log page 02h of the whole controller into `size` bytes at `address`.

    The time limit is left to the driver. Retain-asynchronous-event is off, as the kernel's own sensor and smartctl have
    it: the controller may then tell of the next event.
    """
    dwords = size // 4 - 1
    return bytearray(struct.pack("<BBHIIIQQIIIIIIIIII", _GET_LOG_PAGE, 0, 0, _ALL_NAMESPACES, 0, 0, 0, address, 0, size,
                                 dwords << 16 | _SMART, 0, 0, 0, 0, 0, 0, 0))


def controllers() -> list[str]:
    """Names of the controllers that the kernel has: nvme0, nvme1 ... Empty where there is none."""
    try:
        names = [name for name in os.listdir(CLASS) if _NAME.fullmatch(name)]
    except FileNotFoundError:
        return []
    return sorted(names, key=lambda name: int(name[4:]))


def read_log(name: str) -> bytes:
    """The health log of one controller, which may take as long as the driver likes. Raises OSError."""
    with open(f"{CLASS}/{name}/dev", "rb", 0) as file:
        major, _, minor = file.read(32).strip().partition(b":")
    node = os.open(f"/dev/{name}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        seen = os.fstat(node)
        if not stat.S_ISCHR(seen.st_mode) or seen.st_rdev != os.makedev(int(major), int(minor)):
            raise OSError(f"/dev/{name} is not the controller of that name")
        log = ctypes.create_string_buffer(LOG_BYTES)
        status = fcntl.ioctl(node, _ADMIN_COMMAND, command(ctypes.addressof(log), LOG_BYTES))
    finally:
        os.close(node)
    if status:
        raise OSError(f"the controller refuses: NVMe status {status:#x}")
    return log.raw


class _Question:
    """One controller being asked in a thread of its own; done is free once there is an answer."""

    __slots__ = ("answer", "done", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.answer: Row = (name, "", "")
        self.done = _thread.allocate_lock()
        self.done.acquire()
        try:
            _thread.start_new_thread(self._ask, ())
        except RuntimeError as error:
            self.answer = (name, "", str(error))
            self.done.release()

    def _ask(self) -> None:
        try:
            self.answer = (self.name, read_log(self.name).hex(), "")
        except (OSError, ValueError) as error:
            self.answer = (self.name, "", str(error))
        finally:
            self.done.release()


class NvmeWatch:
    """Asks all controllers; remembers those whose answer is awaited."""

    def __init__(self) -> None:
        self._open: dict[str, _Question] = {}

    def look(self) -> list[Row]:
        """(name, log in hexadecimal, "") or (name, "", why there is none) of each controller, at most MOST."""
        self._open = {name: asked for name, asked in self._open.items() if asked.done.locked()}
        until = time.monotonic() + TOGETHER_S
        return [self._row(name, until) for name in controllers()[:MOST]]

    def _row(self, name: str, until: float) -> Row:
        left = min(ALONE_S, until - time.monotonic())
        if name in self._open:
            return name, "", "has not answered yet"
        if left <= 0 or len(self._open) >= HANGING:
            return name, "", "not asked: others do not answer"
        asked = _Question(name)
        if asked.done.acquire(timeout=left):
            return asked.answer
        self._open[name] = asked
        return name, "", "does not answer"
