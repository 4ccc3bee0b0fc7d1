"""Sockets worth looking at, on request while something is wrong: full listeners, and the busiest connections.

Reads:  NETLINK_SOCK_DIAG of this network namespace; open files of processes, through the warden, for whose they are
Source: sock_diag(7), tcp(7)

All connections are listed without details first, which costs the kernel and us about 2 us each; details (round trip,
window, segments sent again) are asked for of a few.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter

from collector.ebpf.owners import find_owners
from collector.sockdiag import CONNECTED, LISTEN, STATES, Found, SockDiag
from collector.table import NAN
from etio.core.errors import Broken, NoData
from etio.core.facts import Socket, SocketTable

MOST_LISTED = 10_000
MOST_LISTENING = 8
MOST_BUSY = 8
"""For each of: most unsent, most unread, most retries."""
_LISTEN_STATE = STATES.index("listen")
Owners = Callable[[Sequence[int]], Mapping[int, int]]


class SocketReader:
    """Reads a SocketTable. owner_of: inode to pid; what it does not know is looked for in /proc with our own rights."""

    def __init__(self, owner_of: Owners | None = None) -> None:
        self._owner_of = owner_of
        self._owners: dict[int, int] = {}

    def read(self, t_ns: int) -> SocketTable:
        """Raises NoData where the kernel cannot be asked, Broken where its answer is none."""
        with SockDiag() as kernel:
            listening = busy_listeners(kernel.dump(LISTEN)[0])
        with SockDiag() as kernel:
            listed, whole = kernel.dump(CONNECTED, MOST_LISTED)
        with SockDiag() as kernel:
            busiest = [_asked(kernel, one) for one in busiest_of(listed)]
        self._find_owners([*listening, *busiest])
        return SocketTable(
            t_ns, tuple(self._listener(one) for one in listening), tuple(self._connection(one) for one in busiest),
            tuple(sorted(Counter(_state(one) for one in listed).items())), whole)

    def _find_owners(self, sockets: Iterable[Found]) -> None:
        inodes = {one.inode for one in sockets if one.inode}
        self._owners = {inode: pid for inode, pid in self._owners.items() if inode in inodes}
        fresh = sorted(inodes - self._owners.keys())
        if fresh:
            self._owners |= self._owner_of(fresh) if self._owner_of else {}
        if self._owner_of is None and fresh:
            self._owners |= find_owners(set(fresh))

    def _listener(self, one: Found) -> Socket:
        return Socket(one.local_text, "", "listen", self._owners.get(one.inode, 0), one.uid,
                      float(one.receive), float(one.send))

    def _connection(self, one: Found) -> Socket:
        more = one.details
        return Socket(one.local_text, one.remote_text, _state(one), self._owners.get(one.inode, 0), one.uid,
                      NAN, NAN, float(one.receive), float(one.send), one.retries, more.sent_again, more.rtt_seconds,
                      more.cwnd, more.memory_bytes)


def busy_listeners(found: Iterable[Found]) -> list[Found]:
    """Listeners with somebody waiting, fullest first."""
    waiting = [one for one in found if one.state == _LISTEN_STATE and one.receive > 0]
    return sorted(waiting, key=lambda one: -fill(one))[:MOST_LISTENING]


def fill(one: Found) -> float:
    """How full the queue of a listener is, 0..1: one more than its limit gets in before connections are dropped."""
    return min(one.receive / (one.send + 1), 1.0)


def busiest_of(found: Sequence[Found]) -> list[Found]:
    """Connections with most data on their way, most unread, most retries; each once."""
    kept: dict[bytes, Found] = {}
    for size in (attrgetter("send"), attrgetter("receive"), attrgetter("retries")):
        most = heapq.nlargest(MOST_BUSY, found, key=size)
        kept.update((one.identity, one) for one in most if size(one) > 0)
    return list(kept.values())


def _asked(kernel: SockDiag, one: Found) -> Found:
    try:
        return kernel.ask(one)
    except (NoData, Broken):
        return one  # gone meanwhile: what was seen of it stands


def _state(one: Found) -> str:
    return STATES[one.state] if 0 < one.state < len(STATES) else str(one.state)
