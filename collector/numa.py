"""NUMA nodes: free memory of each, and where allocations had to go instead.

Reads:  /sys/devices/system/node/node*/{meminfo,numastat}
Emits:  numa_*{node}
Needs:  CONFIG_NUMA (one node is fine)
Source: Documentation/admin-guide/numastat.rst; Linux drivers/base/node.c
"""

from dataclasses import dataclass
from math import isnan
from pathlib import Path

from collector.files import RETRY_READINGS, File, fault
from collector.table import Column, Table, emits, value_after
from etio.core.errors import Broken, NoData
from etio.core.event import HostEvent
from etio.core.frame import Reading
from etio.core.ports import CollectorSpec

KIB = 1024.0
FOLDER = "sys/devices/system/node"
_LABELS = ("node",)
MEMORY = (
    Column("numa_memory_free_bytes", "bytes", "gauge", "memory of the node that nobody uses", _LABELS),
    Column("numa_memory_used_ratio", "ratio", "gauge", "memory of the node in use, page cache included", _LABELS),
)
STATS = (
    Column("numa_hit_per_second", "pages/s", "counter", "pages allocated here as wanted", _LABELS),
    Column("numa_miss_per_second", "pages/s", "counter", "pages allocated here that were wanted elsewhere", _LABELS),
    Column("numa_foreign_per_second", "pages/s", "counter", "pages wanted here but allocated elsewhere", _LABELS),
    Column("numa_other_node_per_second", "pages/s", "counter",
           "pages allocated here by a task that ran on another node", _LABELS),
)
_KEYS = (b"\nnuma_hit ", b"\nnuma_miss ", b"\nnuma_foreign ", b"\nother_node ")


def parse_node_meminfo(data: bytes) -> list[float]:
    """[free bytes, used ratio] of one node; lines are `Node 0 MemTotal:  16316412 kB`.

    Raises NoData (empty, or a node without memory) or Broken.
    """
    if not data:
        raise NoData("empty")
    total, free = value_after(data, b" MemTotal:"), value_after(data, b" MemFree:")
    if total == 0:
        raise NoData("a node without memory")
    if not total > 0 or isnan(free):
        raise Broken("MemTotal or MemFree is missing")
    return [free * KIB, 1.0 - free / total]


def parse_numastat(data: bytes) -> list[float]:
    """[hit, miss, foreign, other node], cumulative pages. Raises NoData (empty) or Broken (none of them)."""
    if not data:
        raise NoData("empty")
    lines = b"\n" + data
    values = [value_after(lines, k) for k in _KEYS]
    if all(map(isnan, values)):
        raise Broken("holds none of the counters of numastat")
    return values


@dataclass(frozen=True, slots=True)
class Config:
    """No settings."""


class Numa:
    """Collector of the NUMA nodes."""

    def __init__(self, config: Config) -> None:
        self._table = Table()
        self._files: dict[tuple[str, str], File] = {}
        self._told: set[str] = set()
        self._folder = Path(FOLDER)
        self._readings = 0

    def open(self, root: Path) -> None:
        """Raises NoData or Broken."""
        self._folder = root / FOLDER
        self._look()
        if not self._files:
            raise NoData(f"{self._folder}: no node")

    def _look(self) -> None:
        """Nodes can be plugged in (memory expanders), so this is repeated each minute."""
        try:
            names = sorted(p.name for p in self._folder.iterdir())
        except OSError as error:
            raise fault(self._folder, error) from error
        for name in names:
            if name.startswith("node") and name[4:].isdigit():
                for kind in ("meminfo", "numastat"):
                    self._add(name, kind)

    def _add(self, node: str, kind: str) -> None:
        if (node[4:], kind) in self._files:
            return
        try:
            self._files[node[4:], kind] = File(self._folder / node / kind)
        except (NoData, Broken):
            return  # looked for again by the next _look()

    def collect(self, t_ns: int) -> Reading:
        """One reading. Raises NoData or Broken when no node can be read."""
        if not self._files:
            raise NoData(f"{self._folder}: not open")
        self._readings += 1
        if self._readings % RETRY_READINGS == 0:
            self._look()
        self._table.start()
        problems = [p for p in (self._put(*key) for key in tuple(self._files)) if p is not None]
        if len(problems) == len(self._files):
            raise problems[0]
        return self._table.reading(self._events(t_ns, problems) if problems else ())

    def _put(self, node: str, kind: str) -> NoData | Broken | None:
        memory = kind == "meminfo"
        try:
            values = self._files[node, kind].parse(parse_node_meminfo if memory else parse_numastat)
        except (NoData, Broken) as error:
            return error
        self._table.put((node, kind), lambda: [c.series(node) for c in (MEMORY if memory else STATS)], values)
        return None

    def _events(self, t_ns: int, problems: list[NoData | Broken]) -> tuple[HostEvent, ...]:
        fresh = [str(p) for p in problems if isinstance(p, Broken) and str(p) not in self._told]
        self._told.update(fresh)
        return tuple(
            HostEvent(t_ns, "collector_failed", "collector=numa", (("reason", reason),), "collector")
            for reason in fresh
        )

    def close(self) -> None:
        """May be called twice."""
        for file in self._files.values():
            file.close()
        self._files.clear()


COLLECTOR = CollectorSpec(
    name="numa", config=Config, build=Numa, reads="/sys/devices/system/node/node*/{meminfo,numastat}",
    emits=emits((*MEMORY, *STATS)), needs="CONFIG_NUMA", source="Documentation/admin-guide/numastat.rst", period_s=2.0,
)
