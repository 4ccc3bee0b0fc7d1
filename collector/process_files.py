"""Files of /proc/PID as plain values: stat, schedstat, io, cmdline. Names and command lines are not to be trusted.

Source: proc_pid_stat(5), proc_pid_io(5); Documentation/scheduler/sched-stats.rst.
"""

import math
import os
from dataclasses import dataclass

from etio.core.errors import Broken
from etio.core.frame import NS

NAN = math.nan
TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
PF_KTHREAD = 0x00200000
CMDLINE_MAX = 200


@dataclass(frozen=True, slots=True)
class Stat:
    """The fields of /proc/PID/stat that are used; times in seconds, memory in bytes."""

    pid: int
    comm: str
    state: str
    ppid: int
    kernel_thread: bool
    major_faults: float
    cpu_seconds: float
    threads: int
    start_s: float
    rss_bytes: float
    children_cpu_seconds: float


def printable(raw: bytes, limit: int = CMDLINE_MAX) -> str:
    """Untrusted bytes as text to show: no control characters, at most `limit` characters."""
    text = raw.decode("utf-8", "replace")[:limit]
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def parse_stat(raw: bytes) -> Stat:
    """One /proc/PID/stat. The name may hold spaces, parentheses and newlines, so it ends at the last parenthesis.

    Raises Broken for anything else than a complete line.
    """
    left, right = raw.find(b"("), raw.rfind(b")")
    rest = raw[right + 2:].split(None, 22)
    if left < 1 or right < left or len(rest) < 22:
        raise Broken("/proc/PID/stat: incomplete")
    try:
        return Stat(
            pid=int(raw[:left]), comm=printable(raw[left + 1:right], 64), state=rest[0].decode("ascii"),
            ppid=int(rest[1]), kernel_thread=bool(int(rest[6]) & PF_KTHREAD), major_faults=float(int(rest[9])),
            cpu_seconds=(int(rest[11]) + int(rest[12])) / TICK, threads=int(rest[17]),
            start_s=int(rest[19]) / TICK, rss_bytes=float(int(rest[21]) * PAGE),
            children_cpu_seconds=(int(rest[13]) + int(rest[14])) / TICK,
        )
    except (ValueError, OverflowError) as error:
        raise Broken(f"/proc/PID/stat: {error}") from error


def parse_schedstat(raw: bytes | None) -> float:
    """Seconds that one thread waited for a CPU; NaN where the kernel does not tell."""
    parts = (raw or b"").split()
    return int(parts[1]) / NS if len(parts) >= 2 and parts[1].isdigit() else NAN


def parse_io(raw: bytes) -> tuple[float, float]:
    """(read, written) bytes that reached the storage layer, from /proc/PID/io; NaN where a line is missing."""
    found = {b"read_bytes": NAN, b"write_bytes": NAN}
    for line in raw.split(b"\n"):
        key, _, value = line.partition(b": ")
        if key in found and value.isdigit():
            found[key] = float(value)
    return found[b"read_bytes"], found[b"write_bytes"]


def parse_cmdline(raw: bytes) -> str:
    """Arguments joined by spaces, at most 200 characters, control characters replaced."""
    return printable(raw.rstrip(b"\0").replace(b"\0", b" "))
