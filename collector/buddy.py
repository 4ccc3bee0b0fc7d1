"""Free memory by size of its blocks: is there room for a huge page, or only for single pages?

Reads:  /proc/buddyinfo
Emits:  memory_free_blocks{node,zone,order}, memory_fragmentation_ratio{node,zone}
Needs:  -
Source: Documentation/filesystems/proc.rst, "buddyinfo"; the ratio is the unusable free space index of Gorman and
        Whitcroft (2006), as in mm/vmstat.c, for the order of a huge page
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from collector.files import File
from collector.keyed import Bulk, Item, array
from collector.table import NAN, Column, emits, text, whole_lines
from etio.core.errors import Broken, NoData
from etio.core.frame import Floats, Reading
from etio.core.ports import CollectorSpec

BLOCKS = Column("memory_free_blocks", "1", "gauge", "free blocks of 2^order pages", ("node", "zone", "order"))
FRAGMENTED = Column("memory_fragmentation_ratio", "ratio", "gauge",
                    "share of free memory in blocks too small for a huge page (below order 9)", ("node", "zone"))
HUGE_ORDER = 9
"""2 MiB of 4 KiB pages, the huge page of x86-64 and of most arm64 kernels."""
Zones = list[tuple[bytes, bytes, int]]
"""(node, zone, number of orders) of each line."""


def parse_buddyinfo(data: bytes) -> tuple[Zones, list[Floats]]:
    """Zones, and beside each float64[orders]: its free blocks. Raises NoData (empty) or Broken (no such line).

    >>> parse_buddyinfo(b"Node 0, zone DMA 1 0 3\\n")[0]
    [(b'0', b'DMA', 3)]
    """
    if not data:
        raise NoData("empty")
    zones: Zones = []
    blocks: list[Floats] = []
    for line in whole_lines(data):
        fields = line.split()
        if len(fields) > 4 and fields[0] == b"Node" and fields[2] == b"zone":
            zones.append((fields[1].rstrip(b","), fields[3], len(fields) - 4))
            blocks.append(array(fields[4:]))
    if not zones:
        raise Broken("no line 'Node N, zone X' with numbers")
    return zones, blocks


def fragmentation(blocks: Floats) -> float:
    """Share of the free pages below HUGE_ORDER; NaN where nothing is free or the kernel has no such order."""
    pages = blocks[:64] * np.exp2(np.arange(len(blocks[:64])))
    total = float(pages.sum())
    return float(pages[:HUGE_ORDER].sum()) / total if total > 0 and len(pages) > HUGE_ORDER else NAN


def plan(zones: Zones, per_order: bool = True) -> Iterator[Item]:
    """Ratios first, then every block count."""
    for at, (node, zone, orders) in enumerate(zones):
        if orders > HUGE_ORDER:
            yield Item(FRAGMENTED.series(text(node), text(zone)), (at,))
    at = len(zones)
    if not per_order:
        return
    for node, zone, orders in zones:
        for order in range(orders):
            yield Item(BLOCKS.series(text(node), text(zone), str(order)), (at + order,))
        at += orders


@dataclass(frozen=True, slots=True)
class Config:
    """per_order: the number of free blocks of each order, too (eleven for each zone of each node)."""

    per_order: bool = True


class Buddy:
    """Collector of /proc/buddyinfo."""

    def __init__(self, config: Config) -> None:
        self._bulk: Bulk[Zones] = Bulk(partial(plan, per_order=config.per_order))
        self._file: File | None = None

    def open(self, root: Path) -> None:
        """Raises NoData or Broken."""
        self._file = File(root / "proc/buddyinfo")

    def collect(self, t_ns: int) -> Reading:
        """One reading. Raises NoData or Broken."""
        if self._file is None:
            raise NoData("not open")
        zones, blocks = self._file.parse(parse_buddyinfo)
        ratios = np.array([fragmentation(b) for b in blocks])
        return self._bulk.reading(zones, np.concatenate([ratios, *blocks]))

    def close(self) -> None:
        """May be called twice."""
        if self._file is not None:
            self._file.close()
            self._file = None


COLLECTOR = CollectorSpec(
    name="buddy", config=Config, build=Buddy, reads="/proc/buddyinfo", emits=emits((BLOCKS, FRAGMENTED)),
    source="mm/vmstat.c; Documentation/filesystems/proc.rst", period_s=10.0,
)
