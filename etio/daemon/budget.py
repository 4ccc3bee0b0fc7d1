"""What etio itself costs, measured from /proc of its own processes, and the limit it holds itself to."""

import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

NAN = float("nan")
TICKS = os.sysconf("SC_CLK_TCK")
PARTS = 6
"""The time over the limit after which something is shed is looked at in so many parts, each of which must be over."""
MEMORY_EVERY = 12
"""smaps_rollup walks all page tables, 4 to 8 ms: read at every twelfth measurement only."""


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU over the last minute in percent of one core; memory as proportional set size, 10^6 bytes. NaN = unknown."""

    cpu_percent: float = NAN
    pss_mb: float = NAN


class Budget:
    """Measures the CPU time (never the wall time) of the daemon and its helpers, and tells when it is over the limit.

    A burst is not over the limit: each sixth of `over_s` must be. So a busy host, on which everything takes longer,
    sheds nothing.
    """

    def __init__(self, limit_percent: float, over_s: float = 60.0, helpers: tuple[int, ...] = (),
                 more: Callable[[], tuple[int, ...]] = tuple) -> None:
        """helpers: pids beside our own; more: those that come and go."""
        self.limit_percent = limit_percent
        self.every_s = over_s / PARTS
        self._pids = helpers
        self._more = more
        self._used = 0.0
        self._seen: dict[int, float] = {}
        self._marks: deque[tuple[float, float]] = deque(maxlen=PARTS + 1)
        self._since = 0
        self._measured = 0
        self.cost = Cost()

    def measure(self) -> Cost:
        """Call every `every_s` seconds; returns the cost so far."""
        pids = (*self._pids, *self._more())
        seen = {0: time.process_time(), **{pid: _cpu_seconds(pid) for pid in pids}}
        self._used += sum(max(0.0, used - self._seen.get(pid, 0.0)) for pid, used in seen.items())
        self._seen = seen
        self._marks.append((time.monotonic(), self._used))
        self._since += 1
        percent = _percent(self._marks[0], self._marks[-1])
        memory = self.cost.pss_mb
        if self._measured % MEMORY_EVERY == 0:
            memory = _pss_mb("self") + sum(_pss_mb(str(pid)) for pid in pids)
        self._measured += 1
        self.cost = Cost(percent, memory)
        return self.cost

    def over(self) -> bool:
        """True when all of the last `over_s` seconds were above the limit; starts counting anew then."""
        if self._since < PARTS + 1:
            return False
        if not all(_percent(a, b) > self.limit_percent for a, b in pairwise(self._marks)):
            return False
        self._since = 1
        return True

    def room(self) -> bool:
        """Whether less than half of the budget is used, so that something more may be tried."""
        return self.cost.cpu_percent < 0.5 * self.limit_percent


def _percent(first: tuple[float, float], last: tuple[float, float]) -> float:
    return 100.0 * (last[1] - first[1]) / (last[0] - first[0]) if last[0] > first[0] else NAN


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
