"""How long name lookups take at least, from sockets that are seen to wait, without looking at a packet.

The mean number of sockets that wait at a moment is how often one is opened times how long it waits (Little, 1961,
https://doi.org/10.1287/opre.9.3.383). How often is not known, but no more than the host sends datagrams: a lookup
sends one at least. So sightings of waiting sockets over datagrams sent is a bound from below: half of the true time
where the C library asks for both kinds of addresses at once, less where other programs send datagrams as well.

Only sockets that are closed again within `stays_s` count: those that stay belong to programs that keep them.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from collector.keyed import parse_pairs
from collector.table import NAN
from collector.tcp import full_names, parse_two_lines
from etio.core.frame import NS

WINDOW_S = 30.0
"""What ended so long ago is forgotten."""


@dataclass(frozen=True, slots=True)
class Slow:
    """Lookups at one server of late. lookups: different ones that were seen to wait; seconds: they took at least, in
    the mean; sent, received: datagrams per second of the host meanwhile, to and from anybody."""

    lookups: int
    seconds: float
    sent: float
    received: float


@dataclass(slots=True)
class _Seen:
    server: str
    first_ns: int
    last_ns: int
    times: int = 1


class Waits:
    """Sightings of sockets. least_s, lookups: from which on lookups are slow; stays_s: see above."""

    def __init__(self, least_s: float, lookups: int, stays_s: float) -> None:
        self._least_s, self._lookups, self._stays_s = least_s, lookups, stays_s
        self._here: dict[int, _Seen] = {}
        self._ended: deque[_Seen] = deque()
        self._counts: deque[tuple[int, float, float]] = deque()

    @property
    def idle(self) -> bool:
        """Whether nothing that was seen matters any more: then datagrams need not be counted."""
        return not self._here and not self._ended

    def see(self, t_ns: int, present: Mapping[int, str], sent: float, received: float) -> None:
        """One reading: servers by the inode of the socket that waits, datagrams sent and received so far (NaN: not
        known)."""
        for inode, server in present.items():
            one = self._here.get(inode)
            if one is None:
                self._here[inode] = _Seen(server, t_ns, t_ns)
            else:
                one.last_ns, one.times = t_ns, one.times + 1
        for inode in self._here.keys() - present.keys():
            gone = self._here.pop(inode)
            if gone.last_ns - gone.first_ns <= self._stays_s * NS:
                self._ended.append(gone)
        while self._ended and t_ns - self._ended[0].last_ns > WINDOW_S * NS:
            self._ended.popleft()
        self._counts.append((t_ns, sent, received))
        while t_ns - self._counts[0][0] > (WINDOW_S + 2 * self._stays_s) * NS:
            self._counts.popleft()
        if self.idle:
            self._counts.clear()

    def slow(self) -> dict[str, Slow]:
        """The servers at which lookups take long."""
        servers = {one.server for one in self._ended}
        found = {server: self._judge([one for one in self._ended if one.server == server]) for server in servers}
        return {server: one for server, one in found.items()
                if one is not None and one.lookups >= self._lookups and one.seconds >= self._least_s}

    def _judge(self, ended: list[_Seen]) -> Slow | None:
        """Of one server; None where too little is known."""
        # What was there at the first reading had sent before it.
        ended = [one for one in ended if one.first_ns > self._counts[0][0]]
        since = min((one.first_ns for one in ended), default=0)
        if not ended:
            return None
        rows = [row for row in self._counts if row[0] >= since]
        before = next(row for row in reversed(self._counts) if row[0] < since)
        seconds = (rows[-1][0] - before[0]) / NS
        sent, received = (rows[-1][i] - before[i] for i in (1, 2))
        waited_s = sum(one.times for one in ended) * seconds / len(rows)
        if not sent >= len(ended):  # other counters than those of these sockets, or none
            return None
        return Slow(len(ended), waited_s / sent, sent / seconds, received / seconds)


def parse_datagrams(snmp: bytes, snmp6: bytes) -> tuple[float, float]:
    """(sent, received) so far by UDP over IPv4 and IPv6 together; NaN where there is no such count. Raises NoData or
    Broken.

    >>> parse_datagrams(b"Udp: InDatagrams OutDatagrams\\nUdp: 7 9\\n", b"Udp6InDatagrams 1\\nUdp6OutDatagrams 2\\n")
    (11.0, 8.0)
    """
    headers, counts = parse_two_lines(snmp)
    names6, counts6 = parse_pairs(snmp6) if snmp6 else ([], ())
    found = dict(zip(full_names((headers, None, None, names6)), map(float, (*counts, *counts6)), strict=True))
    sent, received = (found.get(f"Udp:{name}", NAN) + found.get(f"Udp6:{name}", 0.0)
                      for name in ("OutDatagrams", "InDatagrams"))
    return sent, received
