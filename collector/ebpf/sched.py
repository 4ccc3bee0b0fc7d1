"""Reader of sched.bcc.c: run-queue latency, time on the CPU, switches and moves between cores.

Emits: sched_run_delay_p50_seconds, sched_run_delay_p99_seconds (wake-up to run, of this tick, error at most 1/8),
sched_run_delay_seconds_per_second (preempted tasks included), sched_on_cpu_p50_seconds, sched_on_cpu_p99_seconds (how
long a task runs at a stretch), sched_switches_per_second, sched_wakeups_per_second,
sched_voluntary_switches_per_second (the task waits for something), sched_involuntary_switches_per_second (it lost the
CPU), sched_migrations_per_second, sched_node_migrations_per_second (on hosts of several NUMA nodes),
cgroup_run_delay_seconds_per_second{cgroup} for groups that waited 10 ms in a second, sched_groups_left_out.
Actors, by process: run_delay (waited), cpu_hold (ran while others waited for that core), preempted (lost the CPU),
migrate (moved; amount: between NUMA nodes; one move in 32 is looked at and stands for as many, all are counted). Waits
below 1 ms are attributed by sampling in proportion to their length, lost CPUs by sampling where they follow each other
faster than 2 ms. On a CPU that switches over 3,800 times a second, of waits below 1 ms one in eight is timed, as eight.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from collector.ebpf.families import BUCKETS, CPU_BYTES, HEAVY_TABLE
from collector.ebpf.groups import MATTERS_S, GroupNames, GroupSeries
from collector.ebpf.heavy import Counts, HeavyTable, quantiles, text
from collector.ebpf.maps import MappedArray
from collector.ebpf.reader import LateFamily, Values
from etio.core.facts import Actor, ActorKind
from etio.core.frame import Floats
from etio.core.ports import Emits
from etio.core.series import Series

EMITS = (
    Emits("sched_run_delay_p50_seconds", "seconds", (), "median wait from wake-up to running, this tick"),
    Emits("sched_run_delay_p99_seconds", "seconds", (), "99th percentile of the same"),
    Emits("sched_on_cpu_p50_seconds", "seconds", (), "median time a task keeps a core at a stretch, this tick"),
    Emits("sched_on_cpu_p99_seconds", "seconds", (), "99th percentile of the same"),
    Emits("sched_run_delay_seconds_per_second", "seconds/s", (), "time runnable tasks waited, over all tasks"),
    Emits("sched_switches_per_second", "1/s", (), "context switches"),
    Emits("sched_wakeups_per_second", "1/s", (), "tasks that came to run after they were woken"),
    Emits("sched_voluntary_switches_per_second", "1/s", (), "switches away from a task that waits for something"),
    Emits("sched_involuntary_switches_per_second", "1/s", (), "switches away from a task that would go on"),
    Emits("sched_migrations_per_second", "1/s", (), "moves of tasks to another core"),
    Emits("sched_node_migrations_per_second", "1/s", (), "of these, to another NUMA node (hosts of several)"),
    Emits("sched_groups_left_out", "1", (), "control groups that waited and have no series, because of the cap"),
    Emits("cgroup_run_delay_seconds_per_second", "seconds/s", ("cgroup",), "time its runnable tasks waited for a core"),
)

_BLOCKED, _PREEMPTED, _WAIT_NS, _ARRIVALS, _MIGRATIONS, _NODE_MIGRATIONS = 0, 1, 3, 7, 10, 11
_MANNERS, _HEAD = 3, 16
"""Manners in which a switch happens, and words before the histograms."""
_WAITS = slice(_HEAD, _HEAD + BUCKETS)
_SLICES = slice(_HEAD + BUCKETS, _HEAD + 2 * BUCKETS)
_GROUPS = 4 * HEAVY_TABLE
_CPUS = 5 * HEAVY_TABLE


class Reader(LateFamily):
    """See the module's docstring."""

    def __init__(self, mapped: MappedArray, entry: dict[str, Any], cpus: int) -> None:
        super().__init__(entry)
        words = CPU_BYTES // 8
        self._cpus = mapped.view("<u8", _CPUS, cpus * words).reshape(cpus, words)
        self._delays, self._holders, self._losers, self._movers = (
            HeavyTable(mapped, i * HEAVY_TABLE) for i in range(4))
        names = GroupNames(Path(entry["root"]), str(entry.get("hierarchy", "")), "cpu")
        self._groups = GroupSeries("cgroup_run_delay_seconds_per_second", HeavyTable(mapped, _GROUPS), names)
        self._last = self._cpus.sum(axis=0)
        self._numa = int(entry.get("nodes", 1)) > 1
        self.series = [
            Series("sched_run_delay_p50_seconds", "seconds"),
            Series("sched_run_delay_p99_seconds", "seconds"),
            Series("sched_on_cpu_p50_seconds", "seconds"),
            Series("sched_on_cpu_p99_seconds", "seconds"),
            Series("sched_run_delay_seconds_per_second", "seconds/s", "counter"),
            Series("sched_switches_per_second", "1/s", "counter"),
            Series("sched_wakeups_per_second", "1/s", "counter"),
            Series("sched_voluntary_switches_per_second", "1/s", "counter"),
            Series("sched_involuntary_switches_per_second", "1/s", "counter"),
            Series("sched_migrations_per_second", "1/s", "counter"),
            Series("sched_groups_left_out", "1"),
            *([Series("sched_node_migrations_per_second", "1/s", "counter")] if self._numa else []),
        ]

    def grab(self) -> Callable[[], Values]:
        """See Family."""
        return partial(self._values, self._cpus.copy())

    def _values(self, cpus: Counts) -> Values:
        now = cpus.sum(axis=0)
        grown, self._last = now - self._last, now
        counts: Floats = now[:_HEAD].astype(np.float64)
        values = [
            *quantiles(grown[_WAITS], (0.5, 0.99)), *quantiles(grown[_SLICES], (0.5, 0.99)), counts[_WAIT_NS] / 1e9,
            counts[:_MANNERS].sum(), counts[_ARRIVALS], counts[_BLOCKED],
            counts[_PREEMPTED], counts[_MIGRATIONS], float(self._groups.left_out),
            *([counts[_NODE_MIGRATIONS]] if self._numa else []),
        ]
        values += [np.nan] * (len(self.series) - len(values))
        self._groups.step(self.series, values, counts[_WAIT_NS] // (MATTERS_S * 1e9))
        return values

    def runs(self) -> Mapping[str, float]:
        """See Family."""
        counts = self._last[:_HEAD].astype(np.float64)
        return {"sched_switch": counts[:_MANNERS].sum(), "sched_wakeup": counts[_ARRIVALS],
                "sched_migrate_task": counts[_MIGRATIONS]}

    def actors(self) -> list[Actor]:
        """Who waited longest, who ran meanwhile, who lost the CPU and who moved most often."""
        return [*_timed("run_delay", self._delays), *_timed("cpu_hold", self._holders),
                *(_counted("preempted", row) for row in self._losers.step()),
                *(_counted("migrate", row, float(row["amount"])) for row in self._movers.step())]


def _timed(kind: ActorKind, table: HeavyTable) -> list[Actor]:
    return [Actor(kind, text(row["name"]), int(row["key"]), count=float(row["count"]),
                  amount=float(row["amount"]) / 1e9, unit="seconds") for row in table.step()]


def _counted(kind: ActorKind, row: Any, amount: float = np.nan) -> Actor:
    return Actor(kind, text(row["name"]), int(row["key"]), count=float(row["count"]), amount=amount)


assert np.dtype("<u8").itemsize * (_HEAD + 2 * BUCKETS) == CPU_BYTES
