"""Network namespaces other than our own: who lives there, and what is lost there (containers, pods, `ip netns`).

Reads:  the process tables that the daemon makes anyway; /proc/PID/net/{dev,snmp,netstat,stat/nf_conntrack} of one
        process for each namespace, at most `most` namespaces a reading, in turn; the pause grows with what that costs
        (`share` of one core at most); the number of a namespace through the warden
        and for one busy namespace after the other its list of TCP sockets
Emits:  network_namespaces; events namespace_losses, namespace_calm, close_wait_pile, close_wait_cleared
Needs:  -; without a warden a namespace has no number
Source: network_namespaces(7), proc_pid_net(5); Documentation/networking/snmp_counter.rst

Everything below /proc/net speaks of one namespace only, so what happens inside a container is in none of the host's
counters. The inode of /proc/PID/net/sockstat tells namespaces apart, and everybody may ask for it.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from collector.cgroup_files import slurp
from collector.netstat_tables import parse_table
from collector.socket_states import Owners
from collector.space_sockets import PileWatch, Place
from collector.table import NAN, Column, Fixed, emits, number
from etio.core.due import is_due
from etio.core.errors import Broken, NoData
from etio.core.event import Field, HostEvent
from etio.core.facts import Process, ProcessTable
from etio.core.frame import NS, Reading
from etio.core.ports import CollectorSpec

NAMESPACES = Column("network_namespaces", "1", "gauge", "network namespaces in use beside our own")
SOURCE = "/proc/PID/net"
CHECK_AGAIN_NS = 60 * NS
"""A process may move to another namespace; that is seen after so long at the latest."""
SUSPECTS = 4
LONGEST_NS = 60 * NS
"""The longest pause between two looks, whatever they cost."""
CHECKS = 256
"""So many processes are asked for their namespace for one table at most."""
CONNECTIONS = "connections"
"""Established or in CLOSE_WAIT: no losses, a level."""
COUNTERS = {
    "TcpExt:ListenOverflows": "listen_overflows", "TcpExt:SyncookiesSent": "syn_cookies",
    "Udp:RcvbufErrors": "udp_buffer_errors", "Tcp:CurrEstab": CONNECTIONS,
}
_DEVICE = {"receive_drops": 3, "receive_errors": 2, "transmit_drops": 11, "transmit_errors": 10}
"""Fields of a line of /proc/net/dev."""
Ask = Callable[[int], int]


@dataclass(frozen=True, slots=True)
class Config:
    """most: namespaces read at one time. share: of one core that this may cost. The others: losses a second, seen twice
    in a row, from which on they are told."""

    most: int = 32
    share: float = 0.0001
    listen_overflows: float = 1.0
    syn_cookies: float = 5.0
    udp_buffer_errors: float = 20.0
    conntrack_drops: float = 1.0
    receive_drops: float = 20.0
    transmit_drops: float = 20.0
    receive_errors: float = 5.0
    transmit_errors: float = 5.0

    def __post_init__(self) -> None:
        if self.most < 0 or min(getattr(self, name) for name in self.__slots__ if name != "most") <= 0:
            raise ValueError("most must be at least 0, all others above 0")


def parse_counters(data: bytes) -> dict[str, float]:
    """Those of COUNTERS that a file such as /proc/net/snmp or netstat has, by our names. Never raises."""
    found: dict[str, float] = {}
    lines = data.split(b"\n")
    for header, line in zip(lines[::2], lines[1::2], strict=False):
        count, places = _places(header)
        if places:
            values = line.split()
            if len(values) == count and header.startswith(values[0]):
                found |= {key: number(values[at]) for key, at in places}
    return found


@lru_cache(maxsize=64)
def _places(header: bytes) -> tuple[int, tuple[tuple[str, int], ...]]:
    """Words of a line of names, and where the ones we want stand."""
    names = header.decode("ascii", "replace").split()
    return len(names), tuple((COUNTERS[key], at) for at, name in enumerate(names) if at
                             and (key := names[0] + name) in COUNTERS)


def parse_devices(data: bytes) -> dict[tuple[str, str], float]:
    """Losses by (what, device) from /proc/net/dev, without loopback. Never raises."""
    found: dict[tuple[str, str], float] = {}
    for line in data.split(b"\n")[2:]:
        name, colon, rest = line.partition(b":")
        fields = rest.split()
        device = name.strip().decode("utf-8", "replace")
        if colon and len(fields) >= 12 and device != "lo":
            found |= {(what, device): number(fields[at]) for what, at in _DEVICE.items()}
    return found


@dataclass(slots=True)
class Space:
    """One namespace. key: the inode that tells it apart. head: the process that stands for it."""

    key: int
    head: Process
    processes: int = 0
    counts: dict[tuple[str, str], float] = field(default_factory=dict)
    t_ns: int = 0
    over: set[tuple[str, str]] = field(default_factory=set)
    told: set[tuple[str, str]] = field(default_factory=set)
    calm: int = 0
    connections: float = 0.0

    @property
    def name(self) -> str:
        """As people call it: the unit or the group that lives there, else the program."""
        place = self.head.unit or self.head.cgroup.rstrip("/").rpartition("/")[2]
        return place or self.head.comm


class Netspaces:
    """Collector of namespaces. Not thread-safe: take() and collect() are called by the sampler. number_of: the number
    of the namespace of a process, 0 where nobody can tell; set by the daemon."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._fixed = Fixed([NAMESPACES.series()])
        self._proc = ""
        self._table: ProcessTable | None = None
        self._seen: ProcessTable | None = None
        self._own = 0
        self._known: dict[int, tuple[float, int, int]] = {}
        self._spaces: dict[int, Space] = {}
        self._next = self._next_ns = 0
        self._piles = PileWatch()
        self.number_of: Ask | None = None

    @property
    def owners(self) -> Owners | None:
        """Pids by inode of a socket; set by the daemon."""
        return self._piles.owners

    @owners.setter
    def owners(self, owners: Owners | None) -> None:
        self._piles.owners = owners

    def open(self, root: Path) -> None:
        """Raises NoData where there is no network."""
        self._proc = str(root).rstrip("/") + "/proc"
        self._own = _inode(f"{self._proc}/net/sockstat")
        if not self._own:
            raise NoData(f"{self._proc}/net/sockstat: not here")

    def take(self, table: ProcessTable) -> ProcessTable:
        """Keeps a process table that somebody made; gives it back for chaining."""
        self._table = table
        return table

    def collect(self, t_ns: int) -> Reading:
        """One reading; events for namespaces that lose something, and when that is over."""
        if self._table is None:
            return self._fixed.reading([NAN])
        # One that has just been seen to lose something is looked at again at once: two looks must agree.
        turn = [space for space in self._spaces.values() if space.over - space.told][:SUSPECTS]
        before = time.thread_time_ns()
        due = is_due(t_ns, self._next_ns, 2 * LONGEST_NS)
        if due:
            if self._table is not self._seen:
                self._see(self._table, t_ns)
                self._seen = self._table
            turn = self._turn()
        events = [event for space in turn for event in self._look(space, t_ns)]
        if due:
            self._next_ns = t_ns + min(int((time.thread_time_ns() - before) / self._config.share), LONGEST_NS)
        events += self._piles.look([Place(one.key, f"{self._proc}/{one.head.pid}/net", one.connections)
                                    for one in self._spaces.values()], t_ns)
        return self._fixed.reading([float(len(self._spaces))], None, tuple(events))

    def close(self) -> None:
        """May be called twice."""
        self._spaces, self._known = {}, {}

    # -- who lives where ---------------------------------------------------------------------------------------------

    def _see(self, table: ProcessTable, t_ns: int) -> None:
        """Sorts processes by namespace; those known are believed for a while."""
        alive: dict[int, tuple[float, int, int]] = {}
        checks = 0
        heads: dict[int, Process] = {}
        counts: Counter[int] = Counter()
        for one in table.processes:
            known = self._known.get(one.pid)
            if known is None or known[0] != one.start_s or not 0 <= t_ns - known[2] < CHECK_AGAIN_NS:
                if checks < CHECKS:
                    checks += 1
                    known = (one.start_s, _inode(f"{self._proc}/{one.pid}/net/sockstat"), t_ns)
                elif known is None or known[0] != one.start_s:
                    continue
            alive[one.pid] = known
            if known[1] and known[1] != self._own:
                counts[known[1]] += 1
                if known[1] not in heads or one.start_s < heads[known[1]].start_s:
                    heads[known[1]] = one
        self._known = alive
        for key, head in heads.items():
            space = self._spaces.setdefault(key, Space(key, head))
            space.head, space.processes = head, counts[key]
        for key in self._spaces.keys() - heads.keys():
            if not self._spaces[key].told:
                del self._spaces[key]

    def _turn(self) -> list[Space]:
        spaces = list(self._spaces.values())
        if len(spaces) <= self._config.most:
            return spaces
        start, self._next = self._next % len(spaces), self._next + self._config.most
        return (spaces + spaces)[start:start + self._config.most]

    # -- what is lost there ------------------------------------------------------------------------------------------

    def _look(self, space: Space, t_ns: int) -> Iterator[HostEvent]:
        counts = self._counts(space.head.pid)
        space.connections = counts.pop((CONNECTIONS, ""), 0.0)
        seconds = (t_ns - space.t_ns) / NS if space.t_ns else 0.0
        rates = {key: (count - space.counts[key]) / seconds for key, count in counts.items()
                 if seconds > 0 and key in space.counts}
        space.counts, space.t_ns = counts, t_ns
        over = {key for key, rate in rates.items() if rate >= getattr(self._config, key[0])}
        lasting, space.over = over & space.over, over
        space.calm = 0 if over else space.calm + 1
        for key in sorted(lasting - space.told, key=lambda key: -rates[key]):
            space.told.add(key)
            yield self._event(space, key, rates[key], t_ns)
        if space.told and (space.calm >= 3 or not counts):
            space.told.clear()
            yield HostEvent(t_ns, "namespace_calm", f"namespace={_label(space)}", (), SOURCE)

    def _counts(self, pid: int) -> dict[tuple[str, str], float]:
        folder = f"{self._proc}/{pid}/net"
        if _inode(f"{folder}/sockstat") not in self._spaces:
            return {}
        counts = parse_devices(slurp(f"{folder}/dev", 1 << 16) or b"")
        for name in ("snmp", "netstat"):
            found = parse_counters(slurp(f"{folder}/{name}") or b"")
            counts |= {(what, ""): value for what, value in found.items()}
        try:
            tracked = parse_table(slurp(f"{folder}/stat/nf_conntrack", 1 << 16) or b"")
            counts["conntrack_drops", ""] = tracked.get("drop", NAN)
        except (NoData, Broken):
            pass  # no connection tracking there
        return counts

    def _event(self, space: Space, key: tuple[str, str], rate: float, t_ns: int) -> HostEvent:
        what, device = key
        head = space.head
        number_ = self.number_of(head.pid) if self.number_of is not None else 0
        fields: list[tuple[str, Field]] = [
            ("what", what), ("per_second", round(rate, 1)), ("pid", head.pid), ("program", head.comm),
            ("processes", space.processes), ("cgroup", head.cgroup), ("unit", head.unit)]
        fields += [("device", device)] if device else []
        fields += [("number", number_)] if number_ else []
        return HostEvent(t_ns, "namespace_losses", f"namespace={_label(space)}", tuple(fields), SOURCE)


def _label(space: Space) -> str:
    return space.name.replace(",", "?")


def _inode(path: str) -> int:
    """Number of a file, 0 where it is gone."""
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0


COLLECTOR = CollectorSpec(
    name="netspaces", config=Config, build=Netspaces,
    reads="process tables; /proc/PID/net/{dev,snmp,netstat} of one process for each network namespace",
    emits=emits((NAMESPACES,)), source="network_namespaces(7)", period_s=2.0, optional=True,
)
