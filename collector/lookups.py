"""Name lookups that get no answer, or a late one: sockets connected to port 53, whose they are, for which server.

Reads:  /proc/net/udp, udp6 of this network namespace; while sockets wait /proc/net/snmp, snmp6; /etc/resolv.conf; who
        holds a socket through the warden
Emits:  dns_lookups_waiting; events lookups_unanswered, lookups_answered, lookups_slow, lookups_quick
Needs:  -; without a warden only the server is named
Source: resolv.conf(5): a query waits 5 seconds for an answer before it is sent again; proc_net_udp(5)

A resolver opens a socket for a query, connects it to the server and closes it with the answer, some milliseconds
later. One that is closed only after the usual time-out has had none. Sockets that stay belong to daemons that keep
them and say nothing, so the first such lookup must have ended before anything is told. A server that refuses (ICMP) is
not seen: the query ends at once.

Lookups that take less than the time-out are slow where collector/lookup_waits.py says so for ten seconds.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from collector.cgroup_files import slurp
from collector.lookup_waits import Slow, Waits, parse_datagrams
from collector.ports import peer_text
from collector.table import NAN, Column, Fixed, emits
from collector.udp_sockets import udp_tables
from etio.core.errors import Broken, NoData
from etio.core.event import HostEvent
from etio.core.frame import NS, Reading
from etio.core.ports import CollectorSpec

WAITING = Column("dns_lookups_waiting", "1", "gauge", "name lookups that have waited for their answer for 5 seconds")
SOURCE = "/proc/net/udp"
SLOW_SOURCE = "/proc/net/udp, snmp"
PORT = b":0035"
SLOW_NS = 10 * NS
FORGET_NS = 20 * NS
"""A lookup that hung is remembered for so long: the next one may have just begun."""
SAMPLE = 16
LOCAL = ("127.", "[::1]")
Owners = Callable[[Sequence[int]], Mapping[int, int]]


@dataclass(frozen=True, slots=True)
class Config:
    """waits_s: a lookup without an answer for so long hangs; stays_s: a socket that is there for longer is no lookup.
    least: lookups that hang at one server before it is told. slow_s: what a lookup takes at least, in the mean, from
    which on it is slow; slow_lookups: seen to wait within half a minute before that is told."""

    waits_s: float = 5.0
    stays_s: float = 45.0
    least: int = 3
    slow_s: float = 0.25
    slow_lookups: int = 8

    def __post_init__(self) -> None:
        if not 0 < self.waits_s < self.stays_s or min(self.least, self.slow_lookups) < 1 or self.slow_s <= 0:
            raise ValueError("0 < waits_s < stays_s, 0 < slow_s, least and slow_lookups at least 1")


def parse_lookups(raw: bytes) -> dict[int, bytes]:
    """Inode to server, as the kernel writes it, of sockets connected to port 53 with nothing to read. Never raises."""
    found = {}
    for line in raw.split(b"\n")[1:]:
        fields = line.split(None, 10)
        if len(fields) >= 10 and fields[2].endswith(PORT) and fields[4].endswith(b":00000000") and fields[9].isdigit():
            found[int(fields[9])] = fields[2]
    return found


def parse_nameservers(raw: bytes) -> tuple[str, ...]:
    """Addresses in resolv.conf. Never raises."""
    words = (line.split() for line in raw.decode("utf-8", "replace").splitlines())
    return tuple(w[1] for w in words if len(w) >= 2 and w[0] == "nameserver")[:8]


def parse_options(raw: bytes) -> tuple[str, ...]:
    """Options in resolv.conf. Never raises.

    >>> parse_options(b"nameserver ::1\\noptions timeout:1 rotate\\n")
    ('timeout:1', 'rotate')
    """
    words = (line.split() for line in raw.decode("utf-8", "replace").splitlines())
    return tuple(option for w in words if w[:1] == ["options"] for option in w[1:])[:8]


@dataclass(slots=True)
class _Lookup:
    server: str
    since_ns: int
    seen_ns: int


class Lookups:
    """Collector of lookups without an answer. owners: pids by inode of a socket; set by the daemon."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._fixed = Fixed([WAITING.series()])
        self._root = ""
        self._open: dict[int, _Lookup] = {}
        self._told: set[str] = set()
        self._waits = Waits(config.slow_s, config.slow_lookups, config.stays_s)
        self._slow_ns: dict[str, int] = {}
        self._told_slow: set[str] = set()
        self.owners: Owners | None = None

    def open(self, root: Path) -> None:
        """Raises NoData where the kernel lists no UDP sockets."""
        self._root = str(root).rstrip("/")
        if slurp(f"{self._root}/proc/net/udp", 64) is None:
            raise NoData(f"{self._root}/proc/net/udp: not here")

    def collect(self, t_ns: int) -> Reading:
        """One reading; events for servers that do not answer, and when they do again."""
        present: dict[int, bytes] = {}
        for raw in udp_tables(f"{self._root}/proc", t_ns):
            present |= parse_lookups(raw)
        self._follow(present, t_ns)
        hanging = sum(inode in present and self._hung(one) for inode, one in self._open.items())
        servers = Counter(one.server for one in self._open.values() if self._hung(one))
        events = (*self._begun(servers, present, t_ns), *self._over(servers, t_ns), *self._slowness(present, t_ns))
        return self._fixed.reading([float(hanging)], None, events)

    def close(self) -> None:
        """Nothing is held."""

    def _follow(self, present: Mapping[int, bytes], t_ns: int) -> None:
        """Ages of the sockets that are there; of those that have gone, the ones that hung a short while ago."""
        for inode, server in present.items():
            one = self._open.get(inode)
            if one is None:
                self._open[inode] = _Lookup(peer_text(server), t_ns, t_ns)
            else:
                one.seen_ns = t_ns
        self._open = {inode: one for inode, one in self._open.items()
                      if inode in present or (self._hung(one) and t_ns - one.seen_ns < FORGET_NS)}

    def _hung(self, one: _Lookup) -> bool:
        age_s = (one.seen_ns - one.since_ns) / NS
        return self._config.waits_s <= age_s <= self._config.stays_s

    def _begun(self, servers: Mapping[str, int], present: Mapping[int, bytes], t_ns: int) -> Iterator[HostEvent]:
        ended = {one.server for inode, one in self._open.items() if inode not in present}
        for server, count in servers.items():
            if count < self._config.least or server in self._told or server not in ended:
                continue
            self._told.add(server)
            oldest = min(one.since_ns for one in self._open.values() if one.server == server and self._hung(one))
            yield HostEvent(t_ns, "lookups_unanswered", f"server={server}", (
                ("pid", self._owner(server, present)), ("lookups", count), ("seconds", round((t_ns - oldest) / NS)),
                *self._settings()), SOURCE)

    def _over(self, servers: Mapping[str, int], t_ns: int) -> Iterator[HostEvent]:
        for server in sorted(self._told - servers.keys()):
            self._told.discard(server)
            yield HostEvent(t_ns, "lookups_answered", f"server={server}", (), SOURCE)

    def _slowness(self, present: Mapping[int, bytes], t_ns: int) -> Iterator[HostEvent]:
        if not present and self._waits.idle:  # as it is nearly always: nothing is read or counted
            self._slow_ns.clear()
            slow: dict[str, Slow] = {}
        else:
            self._waits.see(t_ns, {inode: self._open[inode].server for inode in present}, *self._datagrams())
            slow = self._waits.slow()
            self._slow_ns = {server: self._slow_ns.get(server, t_ns) for server in slow}
        asked = {self._open[inode].server for inode in present}
        for server in sorted(slow.keys() & asked - self._told - self._told_slow):
            # A resolver on this host that is slow because the one it asks is, is not the one to look at.
            behind = server.startswith(LOCAL) and any(not other.startswith(LOCAL) for other in slow)
            if t_ns - self._slow_ns[server] >= SLOW_NS and not behind:
                self._told_slow.add(server)
                yield self._slow_event(server, slow[server], present, t_ns)
        for server in sorted(self._told_slow - slow.keys()):
            self._told_slow.discard(server)
            yield HostEvent(t_ns, "lookups_quick", f"server={server}", (), SLOW_SOURCE)

    def _slow_event(self, server: str, slow: Slow, present: Mapping[int, bytes], t_ns: int) -> HostEvent:
        return HostEvent(t_ns, "lookups_slow", f"server={server}", (
            ("pid", self._owner(server, present)), ("lookups", slow.lookups), ("least_seconds", round(slow.seconds, 2)),
            ("sent_per_second", round(slow.sent, 1)), ("received_per_second", round(slow.received, 1)),
            *self._settings()), SLOW_SOURCE)

    def _datagrams(self) -> tuple[float, float]:
        snmp, snmp6 = (slurp(f"{self._root}/proc/net/{name}", 1 << 16) or b"" for name in ("snmp", "snmp6"))
        try:
            return parse_datagrams(snmp, snmp6)
        except (NoData, Broken):
            return NAN, NAN

    def _owner(self, server: str, present: Mapping[int, bytes]) -> int:
        """The process with most of the sockets that wait for a server; 0 where none can be told."""
        mine = [inode for inode in present if self._open[inode].server == server][:SAMPLE]
        owners = Counter(self.owners(mine).values()) if self.owners is not None and mine else Counter[int]()
        return owners.most_common(1)[0][0] if owners else 0

    def _settings(self) -> tuple[tuple[str, str], ...]:
        raw = slurp(f"{self._root}/etc/resolv.conf", 4096) or b""
        return ("nameservers", ", ".join(parse_nameservers(raw))), ("options", " ".join(parse_options(raw)))


COLLECTOR = CollectorSpec(
    name="lookups", config=Config, build=Lookups, reads="/proc/net/udp, udp6, snmp, snmp6, /etc/resolv.conf",
    emits=emits((WAITING,)), source="resolv.conf(5)", period_s=2.0, optional=True,
)
