"""Connection tracking of netfilter: what it had to turn away, and who fills its table.

Reads:  /proc/net/stat/nf_conntrack, /proc/sys/net/netfilter/nf_conntrack_{count,max}; while the table is (nearly) full,
        a sample of /proc/PID/net/nf_conntrack through the warden
Emits:  conntrack_drops_per_second, conntrack_early_drops_per_second, conntrack_insert_failures_per_second;
        event conntrack_crowd
Needs:  nf_conntrack; CONFIG_NF_CONNTRACK_PROCFS and a warden for who fills it
Source: Linux net/netfilter/nf_conntrack_core.c, __nf_conntrack_alloc(); networking/nf_conntrack-sysctl.rst

How full the table is (conntrack_used_ratio) comes from the collector `limits`.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from collector.files import Sources
from collector.limits import parse_limit
from collector.netstat_tables import parse_table
from collector.table import NAN, Column, Fixed, emits
from etio.core.errors import Broken, NoData
from etio.core.event import Field, HostEvent
from etio.core.frame import NS, Reading
from etio.core.ports import CollectorSpec

COLUMNS = (
    Column("conntrack_drops_per_second", "1/s", "counter", "packets dropped for want of a place in the table"),
    Column("conntrack_early_drops_per_second", "1/s", "counter", "unanswered connections forgotten to make room"),
    Column("conntrack_insert_failures_per_second", "1/s", "counter", "connections that another one was faster than"),
)
_COUNTED = ("drop", "early_drop", "insert_failed")
PATHS = ("proc/net/stat/nf_conntrack", "proc/sys/net/netfilter/nf_conntrack_count",
         "proc/sys/net/netfilter/nf_conntrack_max")
SOURCE = "/proc/net/nf_conntrack"
AGAIN_NS = 30 * NS
Sample = Mapping[str, object]
Ask = Callable[[int], Sample]


@dataclass(frozen=True, slots=True)
class Config:
    """full: share of the table from which on somebody is asked who fills it."""

    full: float = 0.9

    def __post_init__(self) -> None:
        if not 0 < self.full <= 1:
            raise ValueError("0 < full <= 1")


class Conntrack:
    """Collector of what connection tracking turns away. ask: a sample of the table of a process's network namespace, as
    collector.ebpf.tracked makes it; set by the daemon. It may raise NoData or Broken."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._fixed = Fixed([c.series() for c in COLUMNS])
        self._sources: Sources | None = None
        self._drops = NAN
        self._told_ns = -AGAIN_NS
        self.ask: Ask | None = None

    def open(self, root: Path) -> None:
        """Raises NoData (no connection tracking here) or Broken."""
        self._sources = Sources("conntrack", root, PATHS)

    def collect(self, t_ns: int) -> Reading:
        """One reading. Raises NoData or Broken when no file can be read."""
        if self._sources is None:
            raise NoData("not open")
        counted = self._sources.parse(0, parse_table) or {}
        count, most = (self._sources.parse(i, parse_limit) or NAN for i in (1, 2))
        values = [counted.get(name, NAN) for name in _COUNTED]
        dropping, self._drops = values[0] > self._drops, values[0]
        events = self._sources.events(t_ns)
        due = not 0 <= t_ns - self._told_ns < AGAIN_NS
        if due and (dropping or count >= self._config.full * most):
            self._told_ns = t_ns
            events += self._crowd(count, most, t_ns)
        return self._fixed.reading(values, None, events)

    def close(self) -> None:
        """May be called twice."""
        if self._sources is not None:
            self._sources.close()

    def _crowd(self, count: float, most: float, t_ns: int) -> tuple[HostEvent, ...]:
        try:
            found = self.ask(os.getpid()) if self.ask is not None else {}
        except (NoData, Broken):
            found = {}
        fields = crowd_fields(found)
        if not fields:
            return ()
        size = tuple((name, int(value)) for name, value in (("connections", count), ("most", most)) if value > 0)
        return (HostEvent(t_ns, "conntrack_crowd", "host", (*size, *fields), SOURCE),)


def crowd_fields(found: Sample) -> tuple[tuple[str, Field], ...]:
    """The fields of a conntrack_crowd from a sample; none where nothing was looked at or it is none."""
    looked, unanswered, hosts = (found.get(name) for name in ("looked", "unanswered", "hosts"))
    if not (isinstance(looked, int) and isinstance(unanswered, int) and isinstance(hosts, int) and looked > 0):
        return ()
    fields: list[tuple[str, Field]] = [("looked", looked), ("unanswered", unanswered), ("hosts", hosts)]
    for name in ("source", "target", "protocol"):
        top = found.get(name)
        if isinstance(top, list) and len(top) == 2 and isinstance(top[1], int):
            fields += [(name, str(top[0])[:80]), (f"{name}_ratio", round(top[1] / looked, 3))]
    return tuple(fields)


COLLECTOR = CollectorSpec(
    name="conntrack", config=Config, build=Conntrack,
    reads="/proc/net/stat/nf_conntrack, nf_conntrack_{count,max}; /proc/net/nf_conntrack while it is full",
    emits=emits(COLUMNS), source="Documentation/networking/nf_conntrack-sysctl.rst", period_s=2.0, optional=True,
)
