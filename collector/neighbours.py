"""Tables of neighbours (ARP, IPv6 neighbour discovery): how full, and what was turned away when they were.

Reads:  /proc/net/stat/{arp_cache,ndisc_cache}, /proc/sys/net/{ipv4,ipv6}/neigh/default/gc_thresh3; while a table
        overflows, rtnetlink RTM_GETNEIGH once, at most `most` entries
Emits:  neighbour_entries, neighbour_used_ratio, neighbour_overflows_per_second, neighbour_failures_per_second,
        all {family}; event neighbour_crowd
Needs:  -; the tables belong to the whole host, their entries are only seen in our own network namespace
Source: Documentation/networking/ip-sysctl.rst (gc_thresh3); Linux net/core/neighbour.c, neigh_alloc()

A packet to a neighbour that gets no place in the table is dropped: the symptom is a host that reaches some machines
of its own network and not others. Entries that somebody made by hand count as entries, not towards the limit.
"""

import socket
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address, ip_network
from pathlib import Path

from collector.files import Sources
from collector.limits import parse_limit
from collector.netstat_tables import parse_table
from collector.rtnetlink import NUD_FAILED, NUD_INCOMPLETE, Neighbour, neighbours
from collector.table import NAN, Column, Table, emits
from etio.core.errors import Broken, NoData
from etio.core.event import HostEvent
from etio.core.frame import NS, Reading
from etio.core.ports import CollectorSpec
from etio.core.series import Series

_LABELS = ("family",)
COLUMNS = (
    Column("neighbour_entries", "1", "gauge", "neighbours in the table, all network namespaces", _LABELS),
    Column("neighbour_used_ratio", "ratio", "gauge", "neighbours over gc_thresh3", _LABELS),
    Column("neighbour_overflows_per_second", "1/s", "counter", "neighbours that found no place in the table", _LABELS),
    Column("neighbour_failures_per_second", "1/s", "counter", "neighbours that did not answer", _LABELS),
)
FAMILIES = {"ipv4": ("arp_cache", socket.AF_INET), "ipv6": ("ndisc_cache", socket.AF_INET6)}
PATHS = tuple(path for family, (cache, _) in FAMILIES.items()
              for path in (f"proc/net/stat/{cache}", f"proc/sys/net/{family}/neigh/default/gc_thresh3"))
SOURCE = "rtnetlink, neighbours"
AGAIN_NS = 30 * NS


@dataclass(frozen=True, slots=True)
class Config:
    """most: entries that are listed while a table overflows."""

    most: int = 16_384

    def __post_init__(self) -> None:
        if self.most < 1:
            raise ValueError("most must be at least 1")


@dataclass(frozen=True, slots=True)
class Crowd:
    """The device with most neighbours. waiting: entries that got no answer (yet). network: which holds them all."""

    index: int
    entries: int
    waiting: int
    network: str
    listed: int


def crowd_of(found: Sequence[Neighbour]) -> Crowd | None:
    """Where most of the entries are; None where there are none."""
    counts = Counter(index for index, _, _ in found)
    if not counts:
        return None
    index, entries = counts.most_common(1)[0]
    own = [(state, address) for at, state, address in found if at == index]
    waiting = sum(bool(state & (NUD_INCOMPLETE | NUD_FAILED)) for state, _ in own)
    size = Counter(len(address) for _, address in own).most_common(1)[0][0]
    return Crowd(index, entries, waiting, network_of([a for _, a in own if len(a) == size]), len(found))


def network_of(addresses: Sequence[bytes]) -> str:
    """The smallest network that holds all of these addresses of one length.

    >>> network_of([bytes((10, 0, 0, 1)), bytes((10, 0, 3, 200))])
    '10.0.0.0/22'
    """
    low, high = int.from_bytes(min(addresses)), int.from_bytes(max(addresses))
    bits = 8 * len(addresses[0])
    length = bits - (low ^ high).bit_length()
    return str(ip_network((ip_address(min(addresses)), length), strict=False))


class Neighbours:
    """Collector of the neighbour tables."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._table = Table()
        self._sources: Sources | None = None
        self._live = False
        self._full: dict[str, float] = {}
        self._told_ns: dict[str, int] = {}

    def open(self, root: Path) -> None:
        """Raises NoData or Broken."""
        self._sources = Sources("neighbours", root, PATHS)
        self._live = root == Path("/")

    def collect(self, t_ns: int) -> Reading:
        """One reading. Raises NoData or Broken when no table can be read."""
        if self._sources is None:
            raise NoData("not open")
        self._table.start()
        events: list[HostEvent] = []
        for i, family in enumerate(FAMILIES):
            counted = self._sources.parse(2 * i, parse_table)
            most = self._sources.parse(2 * i + 1, parse_limit) or NAN
            if counted is None:
                continue
            full = counted.get("table_fulls", NAN)
            self._table.put(family, partial(_series, family), [
                counted["entries"], counted["entries"] / most, full, counted.get("res_failed", NAN)])
            if self._live and full > self._full.get(family, full):
                events += self._crowd(family, t_ns)
            self._full[family] = full
        return self._table.reading((*self._sources.events(t_ns), *events))

    def close(self) -> None:
        """May be called twice."""
        if self._sources is not None:
            self._sources.close()

    def _crowd(self, family: str, t_ns: int) -> list[HostEvent]:
        """What fills the table, told at most every half a minute."""
        if 0 <= t_ns - self._told_ns.get(family, -AGAIN_NS) < AGAIN_NS:
            return []
        self._told_ns[family] = t_ns
        try:
            crowd = crowd_of(neighbours(FAMILIES[family][1], self._config.most))
        except (OSError, Broken):
            return []
        if crowd is None:
            return []
        return [HostEvent(t_ns, "neighbour_crowd", f"family={family}", (
            ("device", _device(crowd.index)), ("entries", crowd.entries), ("waiting", crowd.waiting),
            ("network", crowd.network), ("listed", crowd.listed)), SOURCE)]


def _device(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return f"interface {index}"


def _series(family: str) -> list[Series]:
    return [c.series(family) for c in COLUMNS]


COLLECTOR = CollectorSpec(
    name="neighbours", config=Config, build=Neighbours,
    reads="/proc/net/stat/{arp_cache,ndisc_cache}, gc_thresh3; rtnetlink RTM_GETNEIGH while a table overflows",
    emits=emits(COLUMNS), source="Documentation/networking/ip-sysctl.rst", period_s=5.0, slow=True, optional=True,
)
