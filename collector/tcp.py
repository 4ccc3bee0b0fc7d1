"""TCP, UDP, IP and ICMP of this network namespace: traffic, retransmits, resets, full queues, sockets.

Reads:  /proc/net/snmp, /proc/net/netstat, /proc/net/sockstat, /proc/net/snmp6, /proc/net/sockstat6, every number of
        them but constants
Emits:  tcp_*, udp_*, udplite_*, ip_*, icmp_*, mptcp_*, tcp6_*, udp6_*, udplite6_*, ip6_*, icmp6_*, network_sockets
Needs:  IPv6 for those with a 6; CONFIG_MPTCP for mptcp_*
Source: Linux net/ipv4/proc.c, net/ipv6/proc.c; Documentation/networking/snmp_counter.rst; RFC 4022, RFC 4113

The kernel counts TCP over IPv4 and IPv6 together; UDP is counted apart and added up here.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from collector.files import Sources, Text
from collector.keyed import Bulk, Item, Keyed, Unchanged, array, first_places, parse_pairs
from collector.late import LateCollector
from collector.table import emits, text
from collector.tcp_names import (
    COLUMNS,
    NAMED,
    RETRANSMIT_RATIO,
    SCALES,
    UDP_SUMS,
    full_name6,
    other_series,
)
from etio.core.errors import Broken, NoData
from etio.core.frame import Reading
from etio.core.ports import CollectorSpec

PATHS = ("proc/net/snmp", "proc/net/netstat", "proc/net/sockstat", "proc/net/snmp6", "proc/net/sockstat6")
_SNMP6 = 3
Layout = tuple[list[bytes] | None, ...]
"""What each of PATHS has; None where it cannot be read, [] where it is not there."""
Parser = Callable[[bytes], Keyed]
_NOTHING = np.empty(0)


def parse_two_lines(data: bytes) -> Keyed:
    """/proc/net/snmp and netstat: (lines of names, the numbers of all of them); NaN for a number that is none.

    Lines come in pairs, the second of which holds the values: "Tcp: InSegs OutSegs", "Tcp: 5 6".
    Raises NoData for an empty file, Broken where two lines do not belong together.
    """
    if not data:
        raise NoData("empty")
    lines = data.split(b"\n")[:-1]  # what is behind the last end of a line is cut off
    headers, tokens = lines[::2], []
    if not lines or len(lines) % 2:
        raise Broken(f"{len(lines)} lines are no pairs of names and values")
    for header, line in zip(headers, lines[1::2], strict=True):
        words = line.split()
        if not words or len(words) != len(_words(header)) or not header.startswith(words[0] + b" "):
            raise Broken(f"names and values do not belong together: {header[:20]!r}, {line[:20]!r}")
        tokens += words[1:]
    return headers, array(tokens)


@lru_cache(maxsize=32)
def _words(header: bytes) -> list[bytes]:
    return header.split()


def parse_sockstat(data: bytes) -> Keyed:
    """/proc/net/sockstat and sockstat6: "TCP inuse" and such, and their numbers. Raises NoData or Broken.

    >>> parse_sockstat(b"TCP: inuse 5 tw 2\\n")[0]
    [b'TCP inuse', b'TCP tw']
    """
    if not data:
        raise NoData("empty")
    names: list[bytes] = []
    tokens: list[bytes] = []
    for line in data.split(b"\n")[:-1]:
        kind, colon, rest = line.partition(b":")
        words = rest.split()
        if not colon or len(words) % 2:
            raise Broken(f"cannot read the line {line[:40]!r}")
        names += [kind + b" " + word for word in words[::2]]
        tokens += words[1::2]
    if not names:
        raise Broken("no line with numbers")
    return names, array(tokens)


def full_names(layout: Layout) -> list[str]:
    """A name for each raw number, "Protocol:Counter" or "LINE word", in the order of the files."""
    names: list[str] = []
    for i, words in enumerate(layout):
        if i < 2:
            names += [text(fields[0] + n) for fields in map(bytes.split, words or ()) for n in fields[1:]]
        else:
            names += [full_name6(text(n)) if i == _SNMP6 else text(n) for n in words or ()]
    return names


def plan(layout: Layout) -> Iterator[Item]:
    """The series of a kernel with these files."""
    place = first_places(full_names(layout))
    for key, column in NAMED.items():
        if key in place:
            yield Item(column.series(), (place[key],), SCALES.get(key, 1.0))
    if "Tcp:RetransSegs" in place and "Tcp:OutSegs" in place:
        yield Item(RETRANSMIT_RATIO.series(), (place["Tcp:RetransSegs"],), weight=place["Tcp:OutSegs"])
    yield from _udp_sums(place, whole=layout[_SNMP6] is not None)
    for key, at in place.items():
        series = None if key in NAMED or key.removeprefix("Udp:") in UDP_SUMS else other_series(key)
        if series is not None:
            yield Item(series, (at,))


def _udp_sums(place: dict[str, int], whole: bool) -> Iterator[Item]:
    """whole: without IPv6 there is nothing to add; a file that is there but odd must not make the sum jump."""
    for counter, column in UDP_SUMS.items():
        if f"Udp:{counter}" in place and whole:
            yield Item(column.series(), tuple(place[k] for k in (f"Udp:{counter}", f"Udp6:{counter}") if k in place))


@dataclass(frozen=True, slots=True)
class Config:
    """No settings."""


class Tcp(LateCollector):
    """Collector of the SNMP counters of the network stack."""

    def __init__(self, config: Config) -> None:
        self._bulk = Bulk(plan)
        self._sources: Sources | None = None
        rarely = (parse_sockstat, parse_pairs, parse_sockstat)
        self._parsers: tuple[Parser, ...] = (parse_two_lines, parse_two_lines, *map(Unchanged, rarely))

    def open(self, root: Path) -> None:
        """Raises NoData or Broken."""
        self._sources = Sources("tcp", root, PATHS)

    def grab(self, t_ns: int) -> Callable[[], Reading]:
        """See etio.core.ports.Deferring."""
        sources = self._sources
        if sources is None:
            raise NoData("not open")
        return partial(self._made, t_ns, sources, [sources.read(i) for i in range(len(PATHS))])

    def _made(self, t_ns: int, sources: Sources, texts: list[Text]) -> Reading:
        found = [sources.made(i, texts[i], parser) for i, parser in enumerate(self._parsers)]
        events = sources.events(t_ns)
        layout = tuple(f[0] if f else ([] if not sources.has(i) else None) for i, f in enumerate(found))
        raw = np.concatenate([f[1] if f else _NOTHING for f in found])
        return self._bulk.reading(layout, raw, events)

    def close(self) -> None:
        """May be called twice."""
        if self._sources is not None:
            self._sources.close()


COLLECTOR = CollectorSpec(
    name="tcp", config=Config, build=Tcp, reads="/proc/net/{snmp,netstat,sockstat,snmp6,sockstat6}",
    emits=emits(COLUMNS), source="Documentation/networking/snmp_counter.rst",
)
