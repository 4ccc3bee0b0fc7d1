"""What etio itself costs, its processes (from /proc) and its eBPF programs, and the limit it holds itself to."""

import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

NAN = float("nan")
TICKS = os.sysconf("SC_CLK_TCK")
CORES = os.cpu_count() or 1
_Mark = tuple[float, float, float]
"""Monotonic time; seconds of CPU that the processes and the programs have used by then."""
PARTS = 6
"""The time over the limit after which something is shed is looked at in so many parts, each of which must be over."""
MEMORY_EVERY = 30
"""smaps_rollup walks all page tables, 4 to 8 ms: read at every thirtieth measurement only."""


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU over the last minute in percent of one core; memory as proportional set size, 10^6 bytes. NaN = unknown.

    cpu_percent: of the processes; kernel_percent: of eBPF programs, on all cores together; share: what one core loses,
    the processes and its part of the programs.
    """

    cpu_percent: float = NAN
    pss_mb: float = NAN
    kernel_percent: float = NAN
    share: float = NAN

    @property
    def total(self) -> float:
        """Percent of one core, all in all."""
        return self.cpu_percent + self.kernel_percent


class Budget:
    """Measures the CPU time (never the wall time) of the daemon, its helpers and its programs in the kernel, and tells
    when it is over the limit. What programs take is spread over all cores, and so it is counted.

    A burst is not over the limit: each sixth of `over_s` must be. So a busy host, on which everything takes longer,
    sheds nothing.
    """

    def __init__(self, limit_percent: float, over_s: float = 60.0, helpers: tuple[int, ...] = (),
                 more: Callable[[], tuple[int, ...]] = tuple, kernel: Callable[[], float] = float) -> None:
        """helpers: pids beside our own; more: those that come and go. kernel: CPU seconds of programs so far."""
        self.limit_percent = limit_percent
        self.every_s = over_s / PARTS
        self._pids = helpers
        self._more = more
        self._kernel = kernel
        self._used = 0.0
        self._programs = 0.0
        self._seen: dict[int, float] = {}
        self._marks: deque[_Mark] = deque(maxlen=PARTS + 1)
        self._since = 0
        self._measured = 0
        self.cost = Cost()

    def measure(self) -> Cost:
        """Call every `every_s` seconds; returns the cost so far."""
        pids = (*self._pids, *self._more())
        seen = {0: time.process_time(), **{pid: _cpu_seconds(pid) for pid in pids}}
        self._used += sum(max(0.0, used - self._seen.get(pid, 0.0)) for pid, used in seen.items())
        self._seen = seen
        self._programs = max(self._programs, self._kernel())
        self._marks.append((time.monotonic(), self._used, self._programs))
        self._since += 1
        percent, kernel = _percent(self._marks[0], self._marks[-1])
        memory = self.cost.pss_mb
        if self._measured % MEMORY_EVERY == 0:
            memory = _pss_mb("self") + sum(_pss_mb(str(pid)) for pid in pids)
        self._measured += 1
        self.cost = Cost(percent, memory, kernel, percent + kernel / CORES)
        return self.cost

    def over(self) -> bool:
        """True when all of the last `over_s` seconds were above the limit; starts counting anew then."""
        if self._since < PARTS + 1:
            return False
        if not all(_share(a, b) > self.limit_percent for a, b in pairwise(self._marks)):
            return False
        self._since = 1
        return True

    def room(self) -> bool:
        """Whether less than half of the budget is used, so that something more may be tried."""
        return self.cost.share < 0.5 * self.limit_percent


def _percent(first: _Mark, last: _Mark) -> tuple[float, float]:
    """(of processes, of programs) in percent of one core."""
    span = last[0] - first[0]
    return (100.0 * (last[1] - first[1]) / span, 100.0 * (last[2] - first[2]) / span) if span > 0 else (NAN, NAN)


def _share(first: _Mark, last: _Mark) -> float:
    own, kernel = _percent(first, last)
    return own + kernel / CORES


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def _pss_mb(pid: str) -> float:
    """Of one process; smaps_rollup of a privileged helper is closed to us, then its resident set stands in."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_bytes().splitlines():
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:
        return 0.0
