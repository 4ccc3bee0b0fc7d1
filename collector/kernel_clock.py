"""The kernel's own monotonic clock, which stamps the kernel log and what eBPF programs see.

Reads: CLOCK_MONOTONIC, /proc/self/timens_offsets
Needs: nothing; before Linux 5.6 there are no time namespaces
Source: time_namespaces(7)
"""

import re
import time
from functools import cache
from pathlib import Path

OFFSETS = Path("/proc/self/timens_offsets")
_LINE = re.compile(rb"^(?:monotonic|1)\s+(-?\d{1,18})\s+(\d{1,9})\s*$", re.MULTILINE)


def parse_offset(raw: bytes) -> int:
    """Nanoseconds that CLOCK_MONOTONIC of this time namespace is ahead of the kernel's; 0 where none is told."""
    found = _LINE.search(raw)
    return int(found.group(1)) * 1_000_000_000 + int(found.group(2)) if found else 0


@cache
def offset_ns() -> int:
    """The same for this process, which cannot change its namespace any more once its clock was read."""
    try:
        return parse_offset(OFFSETS.read_bytes())
    except OSError:
        return 0


def monotonic_ns() -> int:
    """The kernel's monotonic clock now, in nanoseconds."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) - offset_ns()
