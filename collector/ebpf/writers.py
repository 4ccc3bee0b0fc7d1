"""Which processes have files open for writing on one file system, and how large these are on it.

Standard library only, and no import of ours but owners.py: the warden loads this file, which may look into every
process. Which mount a file belongs to is told by the kernel (mnt_id in fdinfo), so that no other file is asked for
anything: one on a server that is away would never answer. A file that a container writes lies in its overlay; that
counts where the overlay keeps its changes on the file system.
"""

import os
import stat
import time
from collections.abc import Iterator

from collector.ebpf.owners import BUDGET_S, PATIENCE, open_files

MOST = 16
"""Files that are told: the largest."""
PATH = 200

Row = tuple[int, int, int, str]
"""(pid, bytes on the file system, 1 = deleted, path)"""


def find_writers(device: int, proc: str = "/proc", budget_s: float = BUDGET_S) -> list[Row]:
    """The files open for writing on the file system with this number (os.makedev), the largest first, each once; what
    was not found within the budget is left out."""
    found: dict[tuple[int, int], Row] = {}
    spaces: set[str] = set()
    mounts: set[str] = set()
    until, until_cpu = time.monotonic() + PATIENCE * budget_s, time.thread_time() + budget_s
    for name in sorted(filter(str.isdecimal, os.listdir(proc)), key=int):
        if time.monotonic() > until or time.thread_time() > until_cpu:
            break
        mounts |= _mounts(f"{proc}/{name}", device, spaces)
        for fd, link in open_files(f"{proc}/{name}/fd"):
            if link.startswith("/") and _writes(f"{proc}/{name}/fdinfo/{fd}", mounts):
                try:
                    one = os.stat(f"{proc}/{name}/fd/{fd}")
                except OSError:  # closed meanwhile
                    continue
                if stat.S_ISREG(one.st_mode):
                    path = link[:PATH].removesuffix(" (deleted)")
                    row = int(name), one.st_blocks * 512, int(one.st_nlink == 0), path
                    found.setdefault((one.st_dev, one.st_ino), row)
    return sorted(found.values(), key=lambda row: -row[1])[:MOST]


def _mounts(process: str, device: int, seen: set[str]) -> set[str]:
    """Ids of the mounts of the file system in the mount namespace of a process; empty where that was looked at."""
    try:
        space = os.readlink(f"{process}/ns/mnt")
        if space in seen:
            return set()
        seen.add(space)
        with open(f"{process}/mountinfo", "rb") as file:
            lines = file.read().split(b"\n")
    except OSError:
        return set()
    return set(_fitting(lines, device))


def _fitting(lines: list[bytes], device: int) -> Iterator[str]:
    number = f"{os.major(device)}:{os.minor(device)}".encode()
    for line in lines:
        fields, _, rest = line.partition(b" - ")
        words = fields.split(b" ")
        if len(words) > 4 and (words[2] == number or (rest.startswith(b"overlay ") and _kept_on(rest, device))):
            yield words[0].decode("ascii", "replace")


def _kept_on(rest: bytes, device: int) -> bool:
    """Whether an overlay keeps its changes on the file system; its options are those of the mount, as somebody wrote
    them, for the namespace of the host."""
    options = rest.split(b" ")[-1].split(b",")
    upper = next((o.removeprefix(b"upperdir=") for o in options if o.startswith(b"upperdir=")), b"")
    try:
        return bool(upper) and os.stat(upper).st_dev == device
    except (OSError, ValueError):
        return False


def _writes(path: str, mounts: set[str]) -> bool:
    """Whether an open file, of which this is the fdinfo, is on one of the mounts and open for writing."""
    try:
        with open(path, "rb", buffering=0) as file:
            told = dict(line.split(":\t", 1) for line in file.read(1024).decode("ascii", "replace").split("\n")
                        if ":\t" in line)
        return told.get("mnt_id", "") in mounts and bool(int(told.get("flags", "0"), 8) & (os.O_WRONLY | os.O_RDWR))
    except (OSError, ValueError):
        return False
