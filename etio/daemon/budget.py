"""What etio itself costs, measured from /proc of its own processes, and the limit it holds itself to."""

import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

NAN = float("nan")
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU over the last minute in percent of one core; memory as proportional set size, 10^6 bytes. NaN = unknown."""

    cpu_percent: float = NAN
    pss_mb: float = NAN


class Budget:
    """Measures the daemon and its helpers; tells when the CPU limit has been passed for a whole minute."""

    def __init__(self, limit_percent: float, helpers: tuple[int, ...] = (),
                 more: Callable[[], tuple[int, ...]] = tuple) -> None:
        self._limit = limit_percent
        self._pids = (os.getpid(), *helpers)
        self._more = more
        """Helpers that come and go."""
        self._used = 0.0
        self._seen: dict[int, float] = {}
        self._marks: deque[tuple[float, float]] = deque(maxlen=7)
        self.cost = Cost()

    def measure(self) -> Cost:
        """Call every ten seconds; returns the cost so far."""
        pids = (*self._pids, *self._more())
        seen = {pid: self._cpu_seconds(pid) for pid in pids}
        self._used += sum(max(0.0, used - self._seen.get(pid, 0.0)) for pid, used in seen.items())
        self._seen = seen
        self._marks.append((time.monotonic(), self._used))
        (t0, c0), (t1, c1) = self._marks[0], self._marks[-1]
        percent = 100.0 * (c1 - c0) / (t1 - t0) if t1 > t0 else NAN
        self.cost = Cost(percent, sum(_pss_mb(pid) for pid in pids))
        return self.cost

    def over(self) -> bool:
        """True when a whole minute was above the limit; starts counting anew then."""
        if len(self._marks) < 7 or not self.cost.cpu_percent > self._limit:
            return False
        self._marks.clear()
        return True

    @staticmethod
    def _cpu_seconds(pid: int) -> float:
        try:
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / TICKS


def _pss_mb(pid: int) -> float:
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
