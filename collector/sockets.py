"""Sockets worth looking at, on request while something is wrong: full listeners, the busiest connections, crowds.

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
from collector.sockdiag import CONNECTED, LISTEN, STATES, Found, SockDiag, address, host_text
from collector.table import NAN
from etio.core.errors import Broken, NoData
from etio.core.facts import Socket, SocketCrowd, SocketTable

MOST_LISTED = 10_000
MOST_LISTENING = 8
MOST_BUSY = 8
"""For each of: most unsent, most unread, most retries."""
CROWD, SAMPLE = 32, 12
"""So many sockets in one state are a crowd; so many of them are asked for their owner."""
_CROWDED = ("syn_recv", "syn_sent", "close_wait", "established", "fin_wait1", "last_ack")
_ALIASES = {"new_syn_recv": "syn_recv"}
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
            listeners = kernel.dump(LISTEN)[0]
        with SockDiag() as kernel:
            listed, whole = kernel.dump(CONNECTED, MOST_LISTED)
        with SockDiag() as kernel:
            busiest = [_asked(kernel, one) for one in busiest_of(listed)]
        listening, crowds = busy_listeners(listeners), crowds_of(listed)
        wanted = {state: sample_of(state, group, listeners) for state, group in crowds.items()}
        self._find_owners([*listening, *busiest, *(one for sample in wanted.values() for one in sample)])
        return SocketTable(
            t_ns, tuple(self._listener(one) for one in listening), tuple(self._connection(one) for one in busiest),
            tuple(sorted(Counter(_state(one) for one in listed).items())), whole,
            tuple(self._crowd(state, group, wanted[state]) for state, group in crowds.items()))

    def _crowd(self, state: str, group: Sequence[Found], sample: Sequence[Found]) -> SocketCrowd:
        local = Counter((one.family, one.local, one.local_port) for one in group).most_common(1)[0]
        remote = Counter((one.family, one.remote, one.remote_port) for one in group).most_common(1)[0]
        hosts = Counter((one.family, one.remote) for one in group)
        host = hosts.most_common(1)[0]
        owners = Counter(pid for one in sample if (pid := self._owners.get(one.inode, 0)))
        return SocketCrowd(
            state, len(group), address(*local[0]), local[1], address(*remote[0]), remote[1], len(hosts),
            host_text(*host[0]), host[1], owners.most_common(1)[0][0] if owners else 0)

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


def crowds_of(found: Iterable[Found]) -> dict[str, list[Found]]:
    """Sockets by state, of states in which there are many."""
    groups: dict[str, list[Found]] = {}
    for one in found:
        groups.setdefault(_state(one), []).append(one)
    return {state: groups[state] for state in _CROWDED if len(groups.get(state, ())) >= CROWD}


def sample_of(state: str, group: Sequence[Found], listeners: Iterable[Found]) -> list[Found]:
    """Some sockets that tell whose the crowd is: requests to connect belong to whoever listens at their port."""
    if state == "syn_recv":
        port = Counter(one.local_port for one in group).most_common(1)[0][0]
        return [one for one in listeners if one.local_port == port][:SAMPLE]
    return [one for one in group[::max(1, len(group) // SAMPLE)] if one.inode][:SAMPLE]


def _asked(kernel: SockDiag, one: Found) -> Found:
    try:
        return kernel.ask(one)
    except (NoData, Broken):
        return one  # gone meanwhile: what was seen of it stands


def _state(one: Found) -> str:
    name = STATES[one.state] if 0 < one.state < len(STATES) else str(one.state)
    return _ALIASES.get(name, name)
