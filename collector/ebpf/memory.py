"""Reader of memory.bcc.c: writers held back for dirty pages, compaction, the reclaim daemon, pages moved.

Emits: dirty_throttle_pauses_per_second, dirty_throttle_seconds_per_second (balance_dirty_pages: tasks that write faster
than their disk takes it are put to sleep), cgroup_dirty_throttle_seconds_per_second{cgroup} for groups held back 10 ms
in a second; compaction_direct_runs_per_second, compaction_direct_seconds_per_second (tasks that compact memory
themselves), compaction_background_seconds_per_second (kcompactd); kswapd_wakes_per_second,
kswapd_active_seconds_per_second (all nodes); page_migrations_per_second{reason},
page_migration_failures_per_second{reason} from the first page moved for that reason on.
Actors, by process: dirty_wait, compaction.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from collector.ebpf.families import HEAVY_TABLE, MEMORY_NODES, MIGRATE_REASONS
from collector.ebpf.groups import GroupNames, GroupSeries
from collector.ebpf.heavy import Counts, HeavyTable, text
from collector.ebpf.maps import MappedArray
from collector.ebpf.reader import LateFamily, Values, symbols
from collector.kernel_clock import monotonic_ns
from etio.core.facts import Actor, ActorKind
from etio.core.ports import Emits
from etio.core.series import Series, labels

EMITS = (
    Emits("dirty_throttle_pauses_per_second", "1/s", (), "times a writer was put to sleep for dirty pages"),
    Emits("dirty_throttle_seconds_per_second", "seconds/s", (), "time writers were put to sleep, all of them"),
    Emits("cgroup_dirty_throttle_seconds_per_second", "seconds/s", ("cgroup",), "the same for the tasks of a group"),
    Emits("compaction_direct_runs_per_second", "1/s", (), "compactions of a zone by a task that needs the memory"),
    Emits("compaction_direct_seconds_per_second", "seconds/s", (), "time tasks spent compacting memory"),
    Emits("compaction_background_seconds_per_second", "seconds/s", (), "time of kcompactd, all nodes"),
    Emits("kswapd_wakes_per_second", "1/s", (), "runs of the reclaim daemon"),
    Emits("kswapd_active_seconds_per_second", "seconds/s", (), "time it was awake, all nodes"),
    Emits("page_migrations_per_second", "1/s", ("reason",), "pages moved, by the kernel's reason"),
    Emits("page_migration_failures_per_second", "1/s", ("reason",), "pages that could not be moved"),
    Emits("memory_groups_left_out", "1", (), "control groups held back that have no series, because of the cap"),
)
_TOTALS = 3 * HEAVY_TABLE
_DAEMONS = _TOTALS + 64
_MOVED = _DAEMONS + 32 * MEMORY_NODES
_PARTS = {
    "balance_dirty_pages": ("dirty_throttle_pauses_per_second", "dirty_throttle_seconds_per_second"),
    "mm_compaction_end": ("compaction_direct_runs_per_second", "compaction_direct_seconds_per_second",
                          "compaction_background_seconds_per_second"),
    "mm_vmscan_kswapd_sleep": ("kswapd_wakes_per_second", "kswapd_active_seconds_per_second"),
}


class Reader(LateFamily):
    """See the module's docstring."""

    def __init__(self, mapped: MappedArray, entry: dict[str, Any], cpus: int) -> None:
        super().__init__(entry)
        self._writers, self._compactors = HeavyTable(mapped, 0), HeavyTable(mapped, 2 * HEAVY_TABLE)
        names = GroupNames(Path(entry["root"]), str(entry.get("hierarchy", "")), "memory")
        self._groups = GroupSeries("cgroup_dirty_throttle_seconds_per_second", HeavyTable(mapped, HEAVY_TABLE), names)
        self._totals = mapped.view("<u8", _TOTALS, 6)
        self._daemons = mapped.view("<u8", _DAEMONS, 4 * MEMORY_NODES).reshape(MEMORY_NODES, 4)
        self._moved = mapped.view("<u8", _MOVED, 2 * MIGRATE_REASONS).reshape(MIGRATE_REASONS, 2)
        on = {str(program["name"]) for program in entry["programs"]}
        self._on = [part for part in _PARTS if part in on]
        self._reasons = symbols(entry, "mm_migrate_pages") if "mm_migrate_pages" in on else {}
        self._places: dict[int, int] = {}
        self._active = 0.0
        self.series = [Series(name, "seconds/s" if "seconds" in name else "1/s", "counter")
                       for part in self._on for name in _PARTS[part]]
        self.series.append(Series("memory_groups_left_out", "1"))

    def grab(self) -> Callable[[], Values]:
        """See Family."""
        return partial(self._values, self._totals.copy(), self._daemons.copy(), self._moved.copy(), monotonic_ns())

    def _values(self, totals: Counts, daemons: Counts, moved: Counts, clock: int) -> Values:
        values = [value for part in self._on for value in self._part(part, totals, daemons, clock)]
        values.append(float(self._groups.left_out))
        values += [0.0] * (len(self.series) - len(values))
        self._migrations(values, moved)
        self._groups.step(self.series, values, float(totals[1]))
        return values

    def _part(self, part: str, totals: Counts, daemons: Counts, clock: int) -> Values:
        pauses, paused_ns, runs, direct_ns, _, background_ns = totals.astype(np.float64).tolist()
        if part == "balance_dirty_pages":
            return [pauses, paused_ns / 1e9]
        if part == "mm_compaction_end":
            return [runs, direct_ns / 1e9, background_ns / 1e9]
        return [float(daemons[:, 0].sum()), self._awake(daemons, clock)]

    def _awake(self, daemons: Counts, now: int) -> float:
        """Seconds the reclaim daemons were awake, up to now: one under constant pressure does not sleep for minutes."""
        since = daemons[:, 2].astype(np.int64)
        running = np.where(since > 0, np.maximum(now - since, 0), 0).sum()
        self._active = max(self._active, (float(daemons[:, 1].sum()) + float(running)) / 1e9)
        return self._active

    def _migrations(self, values: Values, moved: Counts) -> None:
        for number in np.flatnonzero(moved.any(axis=1)).tolist():
            if number not in self._places:
                self._places[number] = len(self.series)
                own = labels(reason=self._reasons.get(number, "other"))
                self.series += [Series("page_migrations_per_second", "1/s", "counter", own),
                                Series("page_migration_failures_per_second", "1/s", "counter", own)]
                values += [0.0, 0.0]
            place = self._places[number]
            values[place], values[place + 1] = (float(n) for n in moved[number])

    def runs(self) -> Mapping[str, float]:
        """See Family. A page is taken for a batch of them."""
        pauses, compactions, pages = float(self._totals[0]), float(self._totals[2]), float(self._moved.sum())
        return {"balance_dirty_pages": pauses, "mm_migrate_pages": pages, "mm_compaction_begin": compactions,
                "mm_compaction_end": compactions, "mm_vmscan_kswapd_wake": float(self._daemons[:, 0].sum())}

    def actors(self) -> list[Actor]:
        """Processes that were held back longest, and those that compacted longest."""
        return [*_actors("dirty_wait", self._writers), *_actors("compaction", self._compactors)]


def _actors(kind: ActorKind, table: HeavyTable) -> list[Actor]:
    return [Actor(kind, text(row["name"]), int(row["key"]), count=float(row["count"]),
                  amount=float(row["amount"]) / 1e9, unit="seconds") for row in table.step()]
