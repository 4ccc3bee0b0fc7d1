"""UDP sockets that lose datagrams: which port, which program.

Reads:  /proc/net/udp and /proc/net/udp6 (column drops), at most `most` sockets; who holds a socket through the warden
Emits:  events udp_socket_drops, udp_socket_calm
Needs:  -; without a warden only sockets of our own user have a name
Source: proc_net_udp(5); net/ipv4/udp.c, udp4_format_sock()

The host counts only how many datagrams are lost (udp_receive_buffer_errors_per_second); each socket counts its own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from collector.cgroup_files import slurp
from collector.table import Fixed
from etio.core.errors import NoData
from etio.core.event import HostEvent
from etio.core.frame import NS, Reading
from etio.core.ports import CollectorSpec

_FILES = ("udp", "udp6")
SOURCE = "/proc/net/udp, drops"
Owners = Callable[[Sequence[int]], Mapping[int, int]]


@lru_cache(maxsize=1)
def udp_tables(proc: str, t_ns: int) -> tuple[bytes, ...]:
    """/proc/net/udp and udp6 as they are at t_ns, empty where they cannot be read. The kernel walks its whole table of
    sockets for each, however few there are (0.05 ms), so the collectors of one tick share them."""
    return tuple(slurp(f"{proc}/net/{name}", 1 << 20) or b"" for name in _FILES)


@dataclass(frozen=True, slots=True)
class UdpSocket:
    """One line: local port, inode, datagrams it lost so far, and bytes that wait in it."""

    port: int
    inode: int
    drops: int
    waiting: int


def parse_udp(raw: bytes) -> list[UdpSocket]:
    """The sockets of /proc/net/udp or udp6; lines that are none are left out. Never raises."""
    found = []
    for line in raw.decode("ascii", "replace").splitlines()[1:]:
        fields = line.split()
        try:
            found.append(UdpSocket(int(fields[1].rpartition(":")[2], 16), int(fields[9]), int(fields[12]),
                                   int(fields[4].rpartition(":")[2], 16)))
        except (IndexError, ValueError):
            continue
    return found


@dataclass(frozen=True, slots=True)
class Config:
    """most: sockets that are looked at. drops_per_second: of one socket, from which on it is told."""

    most: int = 1000
    drops_per_second: float = 20.0

    def __post_init__(self) -> None:
        if self.most < 0 or self.drops_per_second <= 0:
            raise ValueError("most must be at least 0, drops_per_second above 0")


class UdpSockets:
    """Collector of losses by socket. owners: pids by inode; set by the daemon."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._fixed = Fixed(())
        self._proc = ""
        self._drops: dict[int, int] = {}
        self._t_ns = 0
        self._hits: dict[int, int] = {}
        self._told: dict[int, int] = {}
        self.owners: Owners | None = None

    def open(self, root: Path) -> None:
        """Raises NoData where the kernel lists no UDP sockets."""
        self._proc = str(root).rstrip("/") + "/proc"
        if slurp(f"{self._proc}/net/udp", 64) is None:
            raise NoData(f"{self._proc}/net/udp: not here")

    def collect(self, t_ns: int) -> Reading:
        """Events for sockets that began or ceased to lose datagrams; no series."""
        sockets = [one for raw in udp_tables(self._proc, t_ns) for one in parse_udp(raw)]
        seconds = (t_ns - self._t_ns) / NS if self._t_ns else 0.0
        events: list[HostEvent] = []
        losing = set()
        for one in sockets[:self._config.most]:
            before = self._drops.get(one.inode)
            rate = (one.drops - before) / seconds if before is not None and seconds > 0 else 0.0
            if rate >= self._config.drops_per_second:
                losing.add(one.inode)
                self._hits[one.inode] = self._hits.get(one.inode, 0) + 1
                if self._hits[one.inode] >= 2 and one.inode not in self._told:
                    self._told[one.inode] = one.port
                    events.append(self._lost(one, rate, t_ns))
        self._hits = {inode: n for inode, n in self._hits.items() if inode in losing}
        for inode in [i for i in self._told if i not in losing]:
            events.append(HostEvent(t_ns, "udp_socket_calm", f"port={self._told.pop(inode)}", (), SOURCE))
        self._drops, self._t_ns = {s.inode: s.drops for s in sockets[:self._config.most]}, t_ns
        return self._fixed.reading([], None, tuple(events))

    def close(self) -> None:
        """Nothing is held."""

    def _lost(self, one: UdpSocket, rate: float, t_ns: int) -> HostEvent:
        pid = self.owners([one.inode]).get(one.inode, 0) if self.owners is not None else 0
        return HostEvent(t_ns, "udp_socket_drops", f"port={one.port}", (
            ("pid", pid), ("drops_per_second", round(rate, 1)), ("waiting_bytes", one.waiting)), SOURCE)


COLLECTOR = CollectorSpec(
    name="udp_sockets", config=Config, build=UdpSockets, reads="/proc/net/udp, udp6", emits=(),
    source="proc_net_udp(5)", period_s=2.0, optional=True,
)
