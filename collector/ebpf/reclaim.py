"""Reader of reclaim.bcc.c: time that tasks spend reclaiming memory themselves.

Emits: reclaim_direct_stalls_per_second, reclaim_direct_seconds_per_second (the whole host is short of memory),
reclaim_memcg_stalls_per_second, reclaim_memcg_seconds_per_second (a control group is at its limit).
cgroup_reclaim_seconds_per_second{cgroup}, both kinds together, for groups whose tasks were stalled 10 ms in a second.
Actors: reclaim by process, both kinds together.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from collector.ebpf.families import HEAVY_TABLE
from collector.ebpf.groups import GroupNames, GroupSeries
from collector.ebpf.heavy import Counts, HeavyTable, text
from collector.ebpf.maps import MappedArray
from collector.ebpf.reader import LateFamily, Values
from etio.core.facts import Actor
from etio.core.ports import Emits
from etio.core.series import Series

EMITS = (
    *(Emits(f"reclaim_{kind}_{what}", unit, (), f"{text}, {whose}")
      for kind, whose in (("direct", "the host being short"), ("memcg", "a control group at its limit"))
      for what, unit, text in (("stalls_per_second", "1/s", "tasks stalled to reclaim memory"),
                               ("seconds_per_second", "seconds/s", "time tasks spent reclaiming memory"))),
    Emits("cgroup_reclaim_seconds_per_second", "seconds/s", ("cgroup",), "time its tasks spent reclaiming memory"),
)


class Reader(LateFamily):
    """See the module's docstring."""

    def __init__(self, mapped: MappedArray, entry: dict[str, Any], cpus: int) -> None:
        super().__init__(entry)
        self._tasks = HeavyTable(mapped, 0)
        names = GroupNames(Path(entry["root"]), str(entry.get("hierarchy", "")), "memory")
        groups = HeavyTable(mapped, HEAVY_TABLE + 64)
        self._groups = GroupSeries("cgroup_reclaim_seconds_per_second", groups, names)
        memcg = not any("memcg" in one for one in self.missing)
        self._totals = mapped.view("<u8", HEAVY_TABLE, 4 if memcg else 2)
        for kind in ("direct", "memcg")[:2 if memcg else 1]:
            self.series += [Series(f"reclaim_{kind}_stalls_per_second", "1/s", "counter"),
                            Series(f"reclaim_{kind}_seconds_per_second", "seconds/s", "counter")]

    def grab(self) -> Callable[[], Values]:
        """See Family."""
        return partial(self._values, self._totals.copy())

    def _values(self, totals: Counts) -> Values:
        values = [float(n) / 1e9 if i % 2 else float(n) for i, n in enumerate(totals)]
        values += [0.0] * (len(self.series) - len(values))
        self._groups.step(self.series, values, sum(values[1:len(self._totals):2]))
        return values

    def runs(self) -> Mapping[str, float]:
        """See Family."""
        return {f"mm_vmscan_{kind}_reclaim_{end}": float(stalls)
                for kind, stalls in zip(("direct", "memcg"), self._totals[::2], strict=False)
                for end in ("begin", "end")}

    def actors(self) -> list[Actor]:
        """Processes that were stalled longest."""
        return [Actor("reclaim", text(row["name"]), int(row["key"]), count=float(row["count"]),
                      amount=float(row["amount"]) / 1e9, unit="seconds") for row in self._tasks.step()]
