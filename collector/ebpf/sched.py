"""Reader of sched.bcc.c: run-queue latency.

Emits: sched_run_delay_p50_seconds, sched_run_delay_p99_seconds (wake-up to run, of this tick, error at most 1/8),
sched_run_delay_seconds_per_second (preempted tasks included), sched_switches_per_second, sched_wakeups_per_second.
Actors: run_delay by process; waits of less than 50 us are not attributed.
"""

import numpy as np

from collector.ebpf.families import BUCKETS, CPU_BYTES, HEAVY_TABLE
from collector.ebpf.heavy import HeavyTable, quantiles, text
from collector.ebpf.maps import MappedArray
from collector.ebpf.reader import Family, Values
from etio.core.facts import Actor
from etio.core.series import Series

_SWITCHES, _WAKEUPS, _WAIT_NS, _BUCKETS = 0, 1, 2, 8


class Reader(Family):
    """See the module's docstring."""

    def __init__(self, mapped: MappedArray, entry: dict[str, object], cpus: int) -> None:
        super().__init__(entry)
        words = CPU_BYTES // 8
        self._cpus = mapped.view("<u8", HEAVY_TABLE, cpus * words).reshape(cpus, words)
        self._delays = HeavyTable(mapped, 0)
        self._last = self._cpus.sum(axis=0)
        self.series = [
            Series("sched_run_delay_p50_seconds", "seconds"),
            Series("sched_run_delay_p99_seconds", "seconds"),
            Series("sched_run_delay_seconds_per_second", "seconds/s", "counter"),
            Series("sched_switches_per_second", "1/s", "counter"),
            Series("sched_wakeups_per_second", "1/s", "counter"),
        ]

    def read(self) -> Values:
        """Values in the order of `series`."""
        now = self._cpus.sum(axis=0)
        p50, p99 = quantiles((now - self._last)[_BUCKETS:_BUCKETS + BUCKETS], (0.5, 0.99))
        self._last = now
        return [p50, p99, float(now[_WAIT_NS]) / 1e9, float(now[_SWITCHES]), float(now[_WAKEUPS])]

    def actors(self) -> list[Actor]:
        """Processes whose tasks waited longest."""
        return [Actor("run_delay", text(row["name"]), int(row["key"]), count=float(row["count"]),
                      amount=float(row["amount"]) / 1e9, unit="seconds") for row in self._delays.step()]


assert np.dtype("<u8").itemsize * (8 + BUCKETS) == CPU_BYTES
