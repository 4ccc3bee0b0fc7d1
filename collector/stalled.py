"""Connections that stand and move nothing: what was sent is not confirmed although it was sent again and again.

Reads:  NETLINK_SOCK_DIAG: listeners, and sockets with a peer; details of one for each peer that is told; the pause
        between two walks grows with what the last one cost (`share` of one core at most); who holds it, by the warden
Emits:  tcp_stalled_connections; events connections_stalled, connections_resumed
Needs:  -; without a warden only the peer is named
Source: sock_diag(7), tcp(7): tcp_retries2; RFC 6298; struct tcp_info of Linux include/uapi/linux/tcp.h

A peer that is gone without a word, a firewall that has forgotten the connection and a path that swallows large
packets look alike to a program: it waits, for a quarter of an hour by default. Each retry waits twice as long as the
one before, so such a connection hardly shows in any rate. Only connections that this host has opened are told: clients
of a server here vanish all day (phones, laptops), and nobody here waits for them.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from collector.sockdiag import LISTEN, RETRANSMITS, STATES, Found, SockDiag, require_live
from collector.table import NAN, Column, Fixed, emits
from etio.core.due import is_due
from etio.core.errors import NoData
from etio.core.event import HostEvent
from etio.core.frame import NS, Reading
from etio.core.ports import CollectorSpec

COLUMNS = (Column("tcp_stalled_connections", "1", "gauge", "connections whose oldest segment is sent again in vain"),)
SOURCE = "sock_diag"
_STATES = ("established", "fin_wait1", "close_wait", "last_ack", "closing")
_MASK = sum(1 << STATES.index(name) for name in _STATES)
SAMPLE = 32
"""So many connections to a peer are asked for their owner."""
MOVING_S = 10.0
"""Between two walks while nothing is sent again."""
LONGEST_NS = 600 * NS
"""The longest pause between two walks, whatever they cost."""
Owners = Callable[[Sequence[int]], Mapping[int, int]]


@dataclass(frozen=True, slots=True)
class Config:
    """retries: a segment that was sent again so often in vain makes its connection stalled (five: after six seconds or
    more). most: sockets looked at in one walk. share: of one core that walks may cost. peers: most that are told."""

    retries: int = 5
    most: int = 10_000
    share: float = 0.0003
    peers: int = 8

    def __post_init__(self) -> None:
        if self.retries < 1 or self.most < 1 or self.peers < 1 or not 0 < self.share <= 1:
            raise ValueError("retries, most and peers must be at least 1, 0 < share <= 1")


def stalled_of(connected: Iterable[Found], listening: Iterable[Found], retries: int) -> list[Found]:
    """Connections opened by this host that are stalled: a port that nobody listens on here is of a client.

    What has no inode belongs to no process any more: the kernel cleans up behind a program that has ended.
    """
    ours = {one.local_port for one in listening}
    return [one for one in connected if one.inode and one.timer == RETRANSMITS and one.retries >= retries
            and one.local_port not in ours]


class Stalled:
    """Collector of stalled connections. owners: pids by inode of a socket; set by the daemon."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._fixed = Fixed([c.series() for c in COLUMNS])
        self._live = False
        self._count = NAN
        self._next_ns = 0
        self._told: set[str] = set()
        self._moving = False
        self.owners: Owners | None = None

    @property
    def rest_s(self) -> float:
        """See etio.core.ports.Resting: five retries take six seconds and more from when the first one is seen."""
        return MOVING_S if self._moving else 0.0

    def open(self, root: Path) -> None:
        """Raises NoData where the kernel cannot be asked, and for a recorded host."""
        require_live(root)
        self._live = True

    def collect(self, t_ns: int) -> Reading:
        """One reading; between two walks that of the last. Raises NoData or Broken."""
        if not self._live:
            raise NoData("not open")
        events: tuple[HostEvent, ...] = ()
        if is_due(t_ns, self._next_ns, 2 * LONGEST_NS):
            before = time.thread_time_ns()
            with SockDiag() as kernel:
                connected, whole = kernel.dump(_MASK, self._config.most)
                self._moving = whole and not any(one.retries for one in connected)
                listening = [] if self._moving else kernel.dump(LISTEN)[0]
                events = self.take(connected, listening, t_ns, kernel)
            cost_ns = time.thread_time_ns() - before
            self._count = self._count if whole else NAN
            self._next_ns = t_ns + min(int(cost_ns / self._config.share), LONGEST_NS)
        return self._fixed.reading([self._count], None, events)

    def take(self, connected: Iterable[Found], listening: Iterable[Found], t_ns: int,
             kernel: SockDiag | None = None) -> tuple[HostEvent, ...]:
        """Judges one walk; events for peers that fell silent, or are silent no more."""
        peers: dict[str, list[Found]] = {}
        for one in stalled_of(connected, listening, self._config.retries):
            peers.setdefault(one.remote_text, []).append(one)
        self._count = float(sum(map(len, peers.values())))
        over = [HostEvent(t_ns, "connections_resumed", f"peer={peer}", (), SOURCE)
                for peer in sorted(self._told - peers.keys())]
        fresh = sorted(peers.keys() - self._told, key=lambda peer: (-len(peers[peer]), peer))
        self._told &= peers.keys()
        fresh = fresh[:max(0, self._config.peers - len(self._told))]
        self._told.update(fresh)
        return (*over, *(self._event(peer, peers[peer], t_ns, kernel) for peer in fresh))

    def close(self) -> None:
        """May be called twice."""
        self._live = False

    def _event(self, peer: str, stalled: Sequence[Found], t_ns: int, kernel: SockDiag | None) -> HostEvent:
        worst = max(stalled, key=lambda one: one.retries)
        details = worst.details
        if kernel is not None:
            with contextlib.suppress(NoData):  # it has gone since
                details = kernel.ask(worst).details
        heard, segment = details.heard_seconds, details.segment_bytes
        return HostEvent(t_ns, "connections_stalled", f"peer={peer}", (
            ("pid", self._owner(stalled)), ("connections", len(stalled)), ("retries", worst.retries),
            ("unconfirmed", worst.send), ("segment", int(segment) if segment > 0 else 0),
            ("silent_seconds", round(heard) if heard >= 0 else -1)), SOURCE)

    def _owner(self, stalled: Sequence[Found]) -> int:
        """Who holds most of a sample; 0 where nobody is known."""
        inodes = [one.inode for one in stalled if one.inode][:SAMPLE]
        found = list(self.owners(inodes).values()) if self.owners is not None and inodes else []
        return max(set(found), key=found.count, default=0)


COLLECTOR = CollectorSpec(
    name="stalled", config=Config, build=Stalled, reads="sock_diag: TCP connections and what waits to be confirmed",
    emits=emits(COLUMNS), source="sock_diag(7)", period_s=5.0, slow=True, optional=True,
)
