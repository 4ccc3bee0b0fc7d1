"""Which process holds a socket: looks for its inode among the open files of processes.

Standard library only, and no import of ours: the warden loads this file, which may look into every process.
"""

import os
import time
from collections.abc import Iterator

BUDGET_S = 0.25
PATIENCE = 4.0
"""On a host whose CPUs are all taken, that much CPU time may take this many times as long."""


def find_owners(inodes: set[int], proc: str = "/proc", budget_s: float = BUDGET_S) -> dict[int, int]:
    """Socket inode to the lowest pid that has it open; what was not found within `budget_s` of CPU time is left out."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[int, int] = {}
    until, until_cpu = time.monotonic() + PATIENCE * budget_s, time.thread_time() + budget_s
    for pid in sorted(int(name) for name in os.listdir(proc) if name.isdecimal()):
        if len(found) == len(wanted) or time.monotonic() > until or time.thread_time() > until_cpu:
            break
        for _, link in open_files(f"{proc}/{pid}/fd"):
            inode = wanted.get(link)
            if inode is not None:
                found.setdefault(inode, pid)
    return found


def open_files(folder: str) -> Iterator[tuple[str, str]]:
    """(number, what it is) of the open files of a process, whose `fd` folder this is; none where it is gone or not ours
    to look at."""
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        try:
            link = os.readlink(f"{folder}/{name}")
        except OSError:  # closed meanwhile
            continue
        yield name, link
