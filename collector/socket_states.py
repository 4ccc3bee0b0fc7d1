"""States of the TCP sockets of this network namespace between open and closed; connections that nobody closes.

Reads:  NETLINK_SOCK_DIAG, without the established and those in TIME_WAIT, which are counted elsewhere; the kernel
        goes through all sockets for that, so the pause between two walks grows with what the last one cost (`share` of
        one core at most); who holds a socket through the warden
Emits:  tcp_state_sockets{state}; events close_wait_pile, close_wait_cleared
Needs:  -; without a warden only the address is named
Source: sock_diag(7), tcp(7); RFC 9293, 3.6: CLOSE-WAIT waits for the local user to close

A peer that has closed leaves a socket in CLOSE_WAIT until the program here closes it as well. Some are there at any
moment. Many that stay, the same ones, are what a program has forgotten: each holds a file descriptor for ever.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from collector.sockdiag import STATES, Found, SockDiag, require_live
from collector.table import NAN, Column, Table, emits
from etio.core.due import is_due
from etio.core.errors import NoData
from etio.core.event import HostEvent
from etio.core.frame import NS, Reading
from etio.core.ports import CollectorSpec
from etio.core.series import Series

SHOWN = ("syn_sent", "syn_recv", "fin_wait1", "fin_wait2", "close_wait", "last_ack", "closing")
STATE = Column("tcp_state_sockets", "1", "gauge", "TCP sockets in one state", ("state",))
SOURCE = "sock_diag"
_MASK = sum(1 << STATES.index(name) for name in SHOWN)
_CLOSE_WAIT = STATES.index("close_wait")
_ALIASES = {"new_syn_recv": "syn_recv"}
SAMPLE = 32
"""So many sockets of a pile are asked for their owner."""
MOST_PILES = 4
FAR_S = 10.0
"""Between two walks while no pile is near."""
LONGEST_NS = 600 * NS
"""The longest pause between two walks, whatever they cost."""
Owners = Callable[[Sequence[int]], Mapping[int, int]]


@dataclass(frozen=True, slots=True)
class Config:
    """most: sockets looked at in one walk. pile: so many that stay in CLOSE_WAIT at one address are told.
    lasting_s: how long each of them has been there at least. share: of one core that walks may cost, ten times as much
    while something may be a pile."""

    most: int = 10_000
    pile: int = 100
    lasting_s: float = 15.0
    share: float = 0.0003

    def __post_init__(self) -> None:
        if self.most < 1 or self.pile < 1 or self.lasting_s < 0 or not 0 < self.share <= 1:
            raise ValueError("most and pile must be at least 1, lasting_s at least 0, 0 < share <= 1")


@dataclass(frozen=True, slots=True)
class Pile:
    """Sockets that stay in CLOSE_WAIT at one address. server: it is our own address; else that of the peer.

    peers: different hosts at the other end. oldest_ns: when the oldest of them was seen first.
    """

    endpoint: str
    server: bool
    inodes: tuple[int, ...]
    peers: int
    oldest_ns: int


def piles_of(found: Iterable[Found], since: Mapping[int, int], least: int) -> list[Pile]:
    """Groups of at least `least` sockets that share an address, biggest first: that of a server, or of a peer.

    since: when each inode was seen first.
    """
    sockets = list(found)
    ours = Counter((s.local, s.local_port) for s in sockets)
    theirs = Counter((s.remote, s.remote_port) for s in sockets)
    groups: dict[tuple[bool, str], list[Found]] = {}
    for one in sockets:
        server = ours[one.local, one.local_port] >= theirs[one.remote, one.remote_port]
        groups.setdefault((server, one.local_text if server else one.remote_text), []).append(one)
    piles = [Pile(name, server, tuple(s.inode for s in group), len({s.remote for s in group}),
                  min(since[s.inode] for s in group))
             for (server, name), group in groups.items() if len(group) >= least]
    return sorted(piles, key=lambda pile: -len(pile.inodes))[:MOST_PILES]


class SocketStates:
    """Collector of socket states. owners: pids by inode of a socket; set by the daemon."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._table = Table()
        self._live = False
        self._counts: Counter[str] = Counter()
        self._whole = True
        self._next_ns = 0
        self._since: dict[int, int] = {}
        self._told: dict[str, int] = {}
        self.owners: Owners | None = None

    @property
    def rest_s(self) -> float:
        """See etio.core.ports.Resting: a pile stays, and must have stayed for longer."""
        return FAR_S if self._whole and self._counts["close_wait"] < self._config.pile / 4 else 0.0

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
                found, self._whole = kernel.dump(_MASK, self._config.most)
            events = self.take(found, t_ns)
            cost_ns = time.thread_time_ns() - before
            # What may be a pile is looked at more closely until it is known to be one.
            close = self._counts["close_wait"] >= self._config.pile and not self._told
            self._next_ns = t_ns + min(int(cost_ns / self._config.share / (10 if close else 1)), LONGEST_NS)
        self._table.start()
        for state in SHOWN:
            count = float(self._counts[state]) if self._whole else NAN
            self._table.put(state, partial(_series, state), [count])
        return self._table.reading(events)

    def take(self, found: Sequence[Found], t_ns: int) -> tuple[HostEvent, ...]:
        """Counts one walk; events for piles that came or went."""
        self._counts = Counter(_state(one) for one in found)
        waiting = [one for one in found if one.state == _CLOSE_WAIT and one.inode]
        self._since = {one.inode: self._since.get(one.inode, t_ns) for one in waiting}
        lasting = [one for one in waiting if t_ns - self._since[one.inode] >= self._config.lasting_s * NS]
        piles = {pile.endpoint: pile for pile in piles_of(lasting, self._since, self._config.pile)}
        return tuple([*self._begun(piles, t_ns), *self._over(waiting, t_ns)])

    def close(self) -> None:
        """May be called twice."""
        self._live = False

    def _begun(self, piles: Mapping[str, Pile], t_ns: int) -> Iterator[HostEvent]:
        """A pile that has doubled since is told again, for the numbers of the next report."""
        for endpoint, pile in piles.items():
            if len(pile.inodes) >= 2 * self._told.get(endpoint, 0):
                self._told[endpoint] = len(pile.inodes)
                pid, share = self._owner(pile.inodes)
                yield HostEvent(t_ns, "close_wait_pile", f"endpoint={endpoint}", (
                    ("pid", pid), ("sockets", len(pile.inodes)), ("side", "server" if pile.server else "client"),
                    ("peers", pile.peers), ("owned_ratio", share),
                    ("seconds", round((t_ns - pile.oldest_ns) / NS))), SOURCE)

    def _over(self, waiting: Sequence[Found], t_ns: int) -> Iterator[HostEvent]:
        if not self._told:
            return
        left = Counter(text for one in waiting for text in {one.local_text, one.remote_text})
        for endpoint in sorted(self._told):
            if left[endpoint] < self._config.pile / 2:
                del self._told[endpoint]
                yield HostEvent(t_ns, "close_wait_cleared", f"endpoint={endpoint}", (), SOURCE)

    def _owner(self, inodes: Sequence[int]) -> tuple[int, float]:
        """(process that holds most of a sample, its share of those whose owner is known); (0, 0) where none is."""
        sample = list(inodes[::max(1, len(inodes) // SAMPLE)][:SAMPLE])
        owners = Counter(self.owners(sample).values()) if self.owners is not None else Counter[int]()
        if not owners:
            return 0, 0.0
        pid, count = owners.most_common(1)[0]
        return pid, round(count / owners.total(), 2)


def _state(one: Found) -> str:
    name = STATES[one.state] if 0 < one.state < len(STATES) else ""
    return _ALIASES.get(name, name)


def _series(state: str) -> list[Series]:
    return [STATE.series(state)]


COLLECTOR = CollectorSpec(
    name="socket_states", config=Config, build=SocketStates, reads="sock_diag: TCP sockets neither established nor "
    "in TIME_WAIT", emits=emits((STATE,)), source="sock_diag(7)", period_s=5.0, slow=True, optional=True,
)
