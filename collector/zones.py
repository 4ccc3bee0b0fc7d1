"""Memory zones and their watermarks: below "low" kswapd wakes, below "min" tasks reclaim for themselves.

Reads:  /proc/zoneinfo (grows with CPUs and nodes: read seldom)
Emits:  vm_zone_*_pages{node,zone}, memory_zone_*_pages{node,zone}
Needs:  -
Source: Linux mm/vmstat.c (zoneinfo_show_print); Documentation/admin-guide/sysctl/vm.rst, min_free_kbytes
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from collector.keyed import Item, Keyed, KeyedFile, array
from collector.table import Column, emits, text
from etio.core.errors import Broken, NoData
from etio.core.ports import CollectorSpec

_LABELS = ("node", "zone")
_FIELDS = {
    b"free": Column("vm_zone_free_pages", "pages", "gauge", "free pages", _LABELS),
    b"boost": Column("vm_zone_boost_pages", "pages", "gauge",
                     "watermarks raised by that much after fragmentation (vm.watermark_boost_factor)", _LABELS),
    b"min": Column("vm_zone_min_watermark_pages", "pages", "gauge", "below it allocations reclaim first", _LABELS),
    b"low": Column("vm_zone_low_watermark_pages", "pages", "gauge", "below it kswapd wakes up", _LABELS),
    b"high": Column("vm_zone_high_watermark_pages", "pages", "gauge", "above it kswapd sleeps again", _LABELS),
    b"nr_zone_active_anon": Column("memory_zone_active_anon_pages", "pages", "gauge", "memory of processes", _LABELS),
    b"nr_zone_inactive_anon": Column("memory_zone_inactive_anon_pages", "pages", "gauge", "that not used lately",
                                     _LABELS),
    b"nr_zone_active_file": Column("memory_zone_active_file_pages", "pages", "gauge", "page cache in use", _LABELS),
    b"nr_zone_inactive_file": Column("memory_zone_inactive_file_pages", "pages", "gauge",
                                     "page cache not used lately: what reclaim takes first", _LABELS),
    b"nr_zone_unevictable": Column("memory_zone_unevictable_pages", "pages", "gauge", "pages that reclaim may not take",
                                   _LABELS),
    b"nr_zone_write_pending": Column("memory_zone_write_pending_pages", "pages", "gauge",
                                     "dirty or being written: to be had back only after I/O", _LABELS),
    b"nr_mlock": Column("memory_zone_mlock_pages", "pages", "gauge", "pages that a program has locked", _LABELS),
    b"managed": Column("vm_zone_managed_pages", "pages", "gauge", "pages the zone hands out", _LABELS),
}
_LINE = re.compile(rb"\n +(?:pages )?(" + b"|".join(_FIELDS) + rb") +(\d+)(?=\n)")


def parse_zoneinfo(data: bytes) -> Keyed:
    """Names b"node zone field" and pages, without zones that manage none. Raises NoData or Broken."""
    if not data:
        raise NoData("empty")
    names: list[bytes] = []
    tokens: list[bytes] = []
    for part in (b"\n" + data).split(b"\nNode ")[1:]:
        head = part[:part.find(b"\n")].replace(b",", b" ").split()
        at = part.find(b"\n  pages free")
        end = part.find(b"\n  pagesets", at)
        fields = dict(_LINE.findall(part, at, end + 1 if end > at else len(part))) if at >= 0 else {}
        if len(head) == 3 and int(fields.get(b"managed", b"0")[:20]) > 0:
            names += [b" ".join((head[0], head[2], field)) for field in fields]
            tokens += fields.values()
    if not names:
        raise Broken("no zone with its watermarks")
    return names, array(tokens)


def plan(names: list[bytes]) -> Iterator[Item]:
    """A series for each name."""
    for at, name in enumerate(names):
        node, zone, field = name.split(b" ")
        yield Item(_FIELDS[field].series(text(node), text(zone)), (at,))


@dataclass(frozen=True, slots=True)
class Config:
    """No settings."""


class Zones(KeyedFile):
    """Collector of /proc/zoneinfo."""

    path = "proc/zoneinfo"
    parse = staticmethod(parse_zoneinfo)
    plan = staticmethod(plan)


COLLECTOR = CollectorSpec(
    name="zones", config=Config, build=Zones, reads="/proc/zoneinfo", emits=emits(_FIELDS.values()),
    source="mm/vmstat.c", period_s=10.0, optional=True,
)
