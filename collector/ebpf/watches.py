"""Which processes watch files (inotify): instances and watches of each, by the numbers the kernel keeps of open files.

Standard library only, and no import of ours but owners.py: the warden loads this file, which may look into every
process.
"""

import os
import time

from collector.ebpf.owners import BUDGET_S, PATIENCE, open_files

_LINK = "anon_inode:inotify"
_LINE = b"inotify wd:"
_PIECE = 1 << 18
MOST = 512
"""Processes that are told: those with most watches."""

Row = tuple[int, int, int, int]
"""(pid, uid, instances, watches)"""


def find_watchers(proc: str = "/proc", budget_s: float = BUDGET_S) -> tuple[list[Row], bool]:
    """(processes that have inotify instances, most watches first; whether all were looked at within the budget)."""
    found: list[Row] = []
    until, until_cpu = time.monotonic() + PATIENCE * budget_s, time.thread_time() + budget_s
    for name in os.listdir(proc):
        if not name.isdecimal():
            continue
        if time.monotonic() > until or time.thread_time() > until_cpu:
            return _most(found), False
        files = open_files(f"{proc}/{name}/fd")
        counts = [_watches(f"{proc}/{name}/fdinfo/{fd}") for fd, link in files if link == _LINK]
        if counts:
            try:
                found.append((int(name), os.stat(f"{proc}/{name}").st_uid, len(counts), sum(counts)))
            except OSError:
                continue  # it has ended
    return _most(found), True


def _most(found: list[Row]) -> list[Row]:
    return sorted(found, key=lambda row: (row[3], row[2]), reverse=True)[:MOST]


def _watches(path: str) -> int:
    """Lines of watches; a big instance has megabytes of them."""
    count, tail = 0, b""
    try:
        with open(path, "rb", buffering=0) as file:
            while piece := file.read(_PIECE):
                whole = tail + piece
                count += whole.count(_LINE)
                tail = whole[-len(_LINE) + 1:]
    except OSError:
        return count
    return count
