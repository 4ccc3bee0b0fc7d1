"""Memory bandwidth and cache use of each L3 domain, counted by the processor (Intel RDT, AMD QoS).

Reads:  /sys/fs/resctrl/mon_data/mon_L3_*/{mbm_total_bytes,mbm_local_bytes,llc_occupancy}
Emits:  numa_bandwidth_bytes_per_second{domain,which}, numa_cache_used_bytes{domain}
Needs:  a processor that counts it, and resctrl mounted (mount -t resctrl resctrl /sys/fs/resctrl)
Source: Documentation/filesystems/resctrl.rst

Only the default group is read: what was put into monitoring groups of its own is counted there. A domain is an L3
cache, which on most machines is a socket.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from collector.cgroup_files import slurp
from collector.files import fault
from collector.table import NAN, Column, Table, emits
from etio.core.errors import Broken, NoData
from etio.core.frame import Reading
from etio.core.ports import CollectorSpec
from etio.core.series import Series

FOLDER = "sys/fs/resctrl/mon_data"
BANDWIDTH = Column("numa_bandwidth_bytes_per_second", "bytes/s", "counter",
                   "memory traffic of the cores of an L3 domain", ("domain", "which"))
CACHE = Column("numa_cache_used_bytes", "bytes", "gauge", "L3 cache in use", ("domain",))
FILES = (("mbm_total_bytes", "total"), ("mbm_local_bytes", "local"))
MOST_DOMAINS = 256
_DOMAIN = re.compile(r"mon_L3_(\d{1,4})")


def parse_count(data: bytes) -> float:
    """A count of bytes; NaN where the hardware cannot tell just now ("Unavailable", "Error"). Raises Broken."""
    text = data.strip()
    if text in (b"Unavailable", b"Error", b"Unassigned"):
        return NAN
    if not re.fullmatch(rb"\d{1,20}", text):
        raise Broken("no count")
    return float(text)


def _one(series: Series) -> Callable[[], list[Series]]:
    return lambda: [series]


@dataclass(frozen=True, slots=True)
class Config:
    """No settings."""


class Resctrl:
    """Collector of the counters of resctrl's default group."""

    def __init__(self, config: Config) -> None:
        self._table = Table()
        self._folder = Path(FOLDER)
        self._domains: list[str] = []

    def open(self, root: Path) -> None:
        """Raises NoData where resctrl is not mounted or counts nothing."""
        self._folder = root / FOLDER
        try:
            names = sorted(p.name for p in self._folder.iterdir())
        except OSError as error:
            raise fault(self._folder, error) from error
        self._domains = [found[1] for n in names if (found := _DOMAIN.fullmatch(n))][:MOST_DOMAINS]
        if not self._domains:
            raise NoData(f"{self._folder}: no L3 domain is monitored")

    def collect(self, t_ns: int) -> Reading:
        """One reading. Raises Broken when no domain can be read."""
        self._table.start()
        if not sum(self._put(domain) for domain in self._domains):
            raise Broken(f"{self._folder}: no domain can be read")
        return self._table.reading()

    def _put(self, domain: str) -> bool:
        read = 0
        for name, which in FILES:
            value = self._count(domain, name)
            if value is not None:
                read += 1
                series = BANDWIDTH.series(domain, which)
                self._table.put((domain, which), _one(series), [value])
        used = self._count(domain, "llc_occupancy")
        if used is not None:
            read += 1
            self._table.put((domain, ""), _one(CACHE.series(domain)), [used])
        return read > 0

    def _count(self, domain: str, name: str) -> float | None:
        raw = slurp(str(self._folder / f"mon_L3_{int(domain):02d}" / name), 64)
        if raw is None:
            return None
        try:
            return parse_count(raw)
        except Broken:
            return None

    def close(self) -> None:
        """May be called twice."""
        self._domains = []


COLLECTOR = CollectorSpec(
    name="resctrl", config=Config, build=Resctrl, reads="/sys/fs/resctrl/mon_data", emits=emits((BANDWIDTH, CACHE)),
    needs="resctrl mounted", source="Documentation/filesystems/resctrl.rst",
)
