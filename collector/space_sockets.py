"""TCP sockets of a network namespace other than our own, from /proc/PID/net/tcp: what sock_diag would say from inside.

Source: proc_net_tcp(5)
"""

import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from collector.cgroup_files import slurp
from collector.sockdiag import STATES, Found
from collector.socket_states import Config, Owners, SocketStates
from etio.core.due import is_due
from etio.core.event import HostEvent
from etio.core.frame import NS

SHARE = 0.0003
"""Of one core that the lists may cost; each costs milliseconds, however few sockets are there."""
LONGEST_NS = 300 * NS
AGAIN_NS = 16 * NS
"""A little longer than sockets must stay to be a pile."""
MOST_BYTES = 8 << 20
_CLOSE_WAIT = b"%02X" % STATES.index("close_wait")


def parse_sockets(raw: bytes, state: bytes = _CLOSE_WAIT) -> Iterator[Found]:
    """Sockets in one state (two hexadecimal digits) of /proc/net/tcp or tcp6. Never raises."""
    for line in raw.split(b"\n")[1:]:
        fields = line.split(None, 10)
        if len(fields) < 10 or fields[3] != state or not fields[9].isdigit():
            continue
        local, remote = _endpoint(fields[1]), _endpoint(fields[2])
        if local is not None and remote is not None:
            family = socket.AF_INET if len(local[0]) == 4 else socket.AF_INET6
            yield Found(family, int(state, 16), 0, b"", *local, *remote, 0, 0, 0, int(fields[9]))


def _endpoint(text: bytes) -> tuple[bytes, int] | None:
    """Address in network order and port of `0100007F:1F90`; None where it is none."""
    host, _, port = text.partition(b":")
    try:
        words = [bytes.fromhex(host[i:i + 8].decode("ascii"))[::-1] for i in range(0, len(host), 8)]
        address = b"".join(words)
        return (address, int(port, 16)) if len(address) in (4, 16) else None
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Place:
    """A namespace to look at. folder: with its files. connections: established or in CLOSE_WAIT, as it counts them."""

    key: int
    folder: str
    connections: float


class PileWatch:
    """Looks for piles in CLOSE_WAIT in one namespace after the other, at most as often as SHARE allows."""

    def __init__(self, least: int = 100) -> None:
        self._least = least
        self._states: dict[int, SocketStates] = {}
        self._looked_ns: dict[int, int] = {}
        self._next_ns = 0
        self._suspect = 0
        self.owners: Owners | None = None

    def look(self, places: Sequence[Place], t_ns: int) -> list[HostEvent]:
        """Events of the namespace whose turn it is, and of those that have gone. With few connections there is no pile.
        """
        present = {place.key for place in places}
        events = [event for key in self._states.keys() - present for event in self._states.pop(key).take((), t_ns)]
        self._looked_ns = {key: t for key, t in self._looked_ns.items() if key in present}
        busy = [place for place in places if place.connections >= self._least or place.key in self._states]
        if busy and is_due(t_ns, self._next_ns, 2 * LONGEST_NS):
            before = time.thread_time_ns()
            place = min(busy, key=lambda one: (one.key != self._suspect, self._looked_ns.get(one.key, 0)))
            events += self._look_at(place, t_ns)
            pause = AGAIN_NS if self._suspect else LONGEST_NS
            self._next_ns = t_ns + min(int((time.thread_time_ns() - before) / SHARE), pause)
        return events

    def _look_at(self, place: Place, t_ns: int) -> tuple[HostEvent, ...]:
        self._looked_ns[place.key] = t_ns
        found = [one for name in ("tcp", "tcp6")
                 for one in parse_sockets(slurp(f"{place.folder}/{name}", MOST_BYTES) or b"")]
        states = self._states.pop(place.key, None) or SocketStates(Config(pile=self._least))
        states.owners = self.owners
        if found:
            self._states[place.key] = states
        events = states.take(found, t_ns)
        # What may be a pile is looked at once more before it is the turn of another.
        self._suspect = place.key if len(found) >= self._least and self._suspect != place.key else 0
        return events
