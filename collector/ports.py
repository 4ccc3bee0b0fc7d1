"""What TCP sockets share: local ports towards one peer, and memory.

Reads:  /proc/net/sockstat, /proc/sys/net/ipv4/{ip_local_port_range,tcp_mem}; only while more than `look` of the range
        could be in use, /proc/net/tcp and tcp6 (a list of all sockets; some 30 ms for 30,000)
Emits:  tcp_local_ports_used_ratio, tcp_memory_used_ratio; events ports_exhausted, ports_released
Needs:  a warden to name the program; without one only the peer is named
Source: ip(7): ip_local_port_range; connect(2): EADDRNOTAVAIL; proc_net_tcp(5)

A connection needs a local port that is free towards its peer, and one that was closed keeps its port for a minute
(TIME_WAIT). At the end of the range connect fails with EADDRNOTAVAIL, which no counter of the kernel shows
(net_connect_failures_per_second{reason="no_local_port"} does, where eBPF is at hand).

A busy server has as many sockets as a client without ports, all of them at its own port. So the list is only read again
when enough sockets have come since the last time to fill the range, or `share` of one core allows it.

Memory is compared with the mark from which on the kernel cuts buffers down (the second number of tcp_mem): its own
count of time above that (tcp_memory_pressure_ratio) is written only when the pressure ends.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from collector.cgroup_files import slurp
from collector.table import NAN, Column, Fixed, emits, number, value_after
from etio.core.due import is_due
from etio.core.errors import NoData
from etio.core.event import Field, HostEvent
from etio.core.frame import NS, Reading
from etio.core.ports import CollectorSpec

USED = Column("tcp_local_ports_used_ratio", "ratio", "gauge",
              "local ports in use towards one peer, the most; sockets over ports while few are in use")
MEMORY = Column("tcp_memory_used_ratio", "ratio", "gauge",
                "pages all TCP sockets hold over the pressure mark of net.ipv4.tcp_mem")
SOURCE = "/proc/net/tcp"
LONGEST_NS = 600 * NS
"""The longest pause between two lists, whatever they cost."""
LISTEN, TIME_WAIT = b"0A", b"06"
Owners = Callable[[Sequence[int]], Mapping[int, int]]


@dataclass(frozen=True, slots=True)
class Config:
    """look: share of the range from which on the sockets are listed. full, low: shares at which it is told, over.
    share: of one core that listing may cost; ten times as much while no port is left."""

    look: float = 0.5
    full: float = 0.98
    low: float = 0.8
    share: float = 0.0003

    def __post_init__(self) -> None:
        if not (0.0 < self.look <= self.low < self.full <= 1.0 and 0.0 < self.share <= 0.1):
            raise ValueError("0 < look <= low < full <= 1, 0 < share <= 0.1")


@dataclass(slots=True)
class Use:
    """Ports in use towards one peer. inodes: of some sockets that a process still holds."""

    ports: int = 0
    waiting: int = 0
    inodes: list[int] = field(default_factory=list)


def parse_range(raw: bytes | None) -> tuple[int, int]:
    """(first, last) local port; (0, 0) where it cannot be read."""
    words = (raw or b"").split()
    if len(words) != 2 or not all(w.isdigit() for w in words):
        return 0, 0
    return int(words[0]), int(words[1])


def parse_mark(raw: bytes | None) -> float:
    """The pressure mark of tcp_mem, `low pressure most` in pages; NaN where it cannot be read."""
    words = (raw or b"").split()
    mark = number(words[1]) if len(words) == 3 else NAN
    return mark if mark > 0 else NAN


def parse_peers(raw: bytes, first: int, last: int) -> dict[bytes, Use]:
    """Uses by remote address, as the kernel writes it, of sockets with a local port in the range. Never raises."""
    found: dict[bytes, Use] = {}
    for line in raw.split(b"\n")[1:]:
        fields = line.split(None, 10)
        if len(fields) < 10 or fields[3] == LISTEN:
            continue
        try:
            port = int(fields[1].rpartition(b":")[2], 16)
        except ValueError:
            continue
        if first <= port <= last:
            use = found.setdefault(fields[2], Use())
            use.ports += 1
            use.waiting += fields[3] == TIME_WAIT
            if len(use.inodes) < 8 and fields[9].isdigit() and fields[9] != b"0":
                use.inodes.append(int(fields[9]))
    return found


def peer_text(raw: bytes) -> str:
    """`0100007F:1538` as "127.0.0.1:5432"; "?" where it is none.

    >>> peer_text(b"0100007F:1538"), peer_text(b"0000000000000000FFFF00000100007F:0050")
    ('127.0.0.1:5432', '127.0.0.1:80')
    """
    host, _, port = raw.partition(b":")
    try:
        words = b"".join(bytes.fromhex(host[i:i + 8].decode())[::-1] for i in range(0, len(host), 8))
        if len(words) == 4:
            return f"{IPv4Address(words)}:{int(port, 16)}"
        address = IPv6Address(words)
        return f"{address.ipv4_mapped}:{int(port, 16)}" if address.ipv4_mapped else f"[{address}]:{int(port, 16)}"
    except ValueError:
        return "?"


class Ports:
    """Collector of local ports. owners: pids by inode of a socket; set by the daemon."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._fixed = Fixed([USED.series(), MEMORY.series()])
        self._proc = ""
        self._told: set[str] = set()
        self._most = self._rough = 0.0
        self._next_ns = 0
        self.owners: Owners | None = None

    def open(self, root: Path) -> None:
        """Raises NoData where there is no TCP."""
        self._proc = str(root).rstrip("/") + "/proc"
        if slurp(f"{self._proc}/net/sockstat", 64) is None:
            raise NoData(f"{self._proc}/net/sockstat: not here")

    def collect(self, t_ns: int) -> Reading:
        """One reading; events for a peer towards which no port is left."""
        stat = slurp(f"{self._proc}/net/sockstat", 4096) or b""
        memory = value_after(stat, b" mem ") / parse_mark(slurp(f"{self._proc}/sys/net/ipv4/tcp_mem", 96))
        first, last = parse_range(slurp(f"{self._proc}/sys/net/ipv4/ip_local_port_range", 64))
        count = last - first + 1
        if first < 1 or count < 1:
            return self._fixed.reading([NAN, memory])
        rough = (value_after(stat, b"TCP: inuse ") + value_after(stat, b" tw ")) / count
        if rough < self._config.look and not self._told:
            self._most = self._rough = 0.0
            self._next_ns = 0
            return self._fixed.reading([rough, memory])
        events: list[HostEvent] = []
        if self._due(rough, t_ns):
            before = time.thread_time_ns()
            uses = self._uses(first, last)
            self._most, self._rough = max((use.ports for use in uses.values()), default=0) / count, rough
            events = [*self._tell(uses, count, t_ns)]
            share = self._config.share * (10 if self._told else 1)
            self._next_ns = t_ns + min(int((time.thread_time_ns() - before) / share), LONGEST_NS)
        # No more than that: whatever came since the last list may go to that peer.
        used = min(self._most + max(0.0, rough - self._rough), rough)
        return self._fixed.reading([used, memory], None, tuple(events))

    def _due(self, rough: float, t_ns: int) -> bool:
        """Whether the list is to be read again: time for it, or enough sockets came to fill the range since."""
        enough = self._most + (rough - self._rough) >= self._config.full
        return is_due(t_ns, self._next_ns, 2 * LONGEST_NS) or (enough and not self._told)

    def close(self) -> None:
        """Nothing is held."""

    def _uses(self, first: int, last: int) -> dict[str, Use]:
        found: dict[str, Use] = {}
        for name in ("tcp", "tcp6"):
            raw = _whole(f"{self._proc}/net/{name}")
            found |= {peer_text(peer): use for peer, use in parse_peers(raw, first, last).items()}
        return found

    def _tell(self, uses: Mapping[str, Use], count: int, t_ns: int) -> Iterator[HostEvent]:
        for peer, use in uses.items():
            if use.ports / count >= self._config.full and peer not in self._told:
                self._told.add(peer)
                yield HostEvent(t_ns, "ports_exhausted", f"peer={peer}", self._fields(use, count), SOURCE)
        for peer in sorted(self._told):
            if uses.get(peer, Use()).ports / count < self._config.low:
                self._told.discard(peer)
                yield HostEvent(t_ns, "ports_released", f"peer={peer}", (), SOURCE)

    def _fields(self, use: Use, count: int) -> tuple[tuple[str, Field], ...]:
        owners = self.owners(use.inodes) if self.owners is not None and use.inodes else {}
        held = Counter(owners.values()).most_common(1)
        return (("pid", held[0][0] if held else 0), ("ports", use.ports), ("range", count), ("time_wait", use.waiting))


def _whole(path: str) -> bytes:
    """All of a file of /proc that may be megabytes long."""
    try:
        with open(path, "rb") as file:
            return file.read(32 << 20)
    except OSError:
        return b""


COLLECTOR = CollectorSpec(
    name="ports", config=Config, build=Ports, reads="/proc/net/sockstat, ip_local_port_range, tcp_mem; "
    "/proc/net/tcp when full",
    emits=emits((USED, MEMORY)), source="ip(7), connect(2)", period_s=2.0, optional=True,
)
