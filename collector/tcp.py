"""TCP and UDP of this network namespace: traffic, retransmits, resets, full queues.

Reads:  /proc/net/snmp, /proc/net/netstat, /proc/net/sockstat, /proc/net/snmp6
Emits:  tcp_*, udp_*
Needs:  -
Source: Linux net/ipv4/proc.c, net/ipv6/proc.c; Documentation/networking/snmp_counter.rst; RFC 4022, RFC 4113

The kernel counts TCP over IPv4 and IPv6 together; UDP is counted apart and added up here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from collector.files import Sources
from collector.table import NAN, Column, Fixed, emits, numbers, value_after
from etio.core.errors import Broken, NoData
from etio.core.frame import Reading
from etio.core.ports import CollectorSpec


def _rate(name: str, text: str) -> Column:
    return Column(name, "1/s", "counter", text)


_TCP = (
    (_rate("tcp_segments_sent_per_second", "segments sent, without pure retransmits"), b"OutSegs"),
    (_rate("tcp_segments_received_per_second", "segments received, bad ones included"), b"InSegs"),
    (_rate("tcp_retransmits_per_second", "segments sent again"), b"RetransSegs"),
    (Column("tcp_retransmit_ratio", "ratio", "mean", "segments sent again over segments sent"), b"RetransSegs"),
    (_rate("tcp_resets_sent_per_second", "segments sent with RST"), b"OutRsts"),
    (_rate("tcp_resets_received_per_second", "established connections that were reset"), b"EstabResets"),
    (_rate("tcp_active_opens_per_second", "connections opened from here"), b"ActiveOpens"),
    (_rate("tcp_attempt_fails_per_second", "connection attempts that failed"), b"AttemptFails"),
    (Column("tcp_established", "1", "gauge", "connections ESTABLISHED or CLOSE-WAIT"), b"CurrEstab"),
)
_EXT = (
    (_rate("tcp_listen_overflows_per_second", "connections refused because an accept queue was full"),
     b"ListenOverflows"),
    (_rate("tcp_listen_drops_per_second", "connections refused by a listening socket for any reason"), b"ListenDrops"),
    (_rate("tcp_syn_retransmits_per_second", "SYN or SYN/ACK sent again"), b"TCPSynRetrans"),
)
_SOCKETS = (
    (Column("tcp_time_wait", "1", "gauge", "sockets in TIME-WAIT"), b" tw "),
    (Column("tcp_memory_pages", "pages", "gauge", "pages all TCP sockets hold (limit: net.ipv4.tcp_mem)"), b" mem "),
)
_UDP = (
    (_rate("udp_datagrams_received_per_second", "datagrams delivered"), b"InDatagrams"),
    (_rate("udp_receive_buffer_errors_per_second", "datagrams lost because a socket's buffer was full"),
     b"RcvbufErrors"),
)
COLUMNS = tuple(c for c, _ in (*_TCP, *_EXT, *_SOCKETS, *_UDP))
PATHS = ("proc/net/snmp", "proc/net/netstat", "proc/net/sockstat", "proc/net/snmp6")
_RATIO = [c.name for c in COLUMNS].index("tcp_retransmit_ratio")
_OUT_SEGS = 0


def parse_pairs(data: bytes, protocol: bytes, wanted: tuple[bytes, ...]) -> list[float]:
    """Numbers of one protocol of /proc/net/snmp or netstat: a line of names, then a line of values.

    protocol: with its colon, b"Tcp:". NaN for a name this kernel does not have.
    Raises NoData for an empty file, Broken where the two lines do not belong together.
    """
    if not data:
        raise NoData("empty")
    at = 0 if data.startswith(protocol) else data.find(b"\n" + protocol) + 1
    middle = data.find(b"\n", at)
    end = data.find(b"\n", middle + 1)
    if not data.startswith(protocol, at) or middle < 0 or end < 0:
        raise Broken(f"no pair of lines {protocol.decode()!r}")
    values = data[middle + 1:end].split()
    width, places = _places(data[at:middle], wanted)
    if len(values) != width or values[0] != protocol:
        raise Broken(f"the lines {protocol.decode()!r} have {width} names and {len(values)} values")
    return numbers([values[p] if p else b"" for p in places])


@lru_cache(maxsize=8)
def _places(header: bytes, wanted: tuple[bytes, ...]) -> tuple[int, tuple[int, ...]]:
    """(number of words, place of each wanted name); place 0, which is the protocol's, stands for a missing one."""
    names = header.split()
    return len(names), tuple(names.index(w) if w in names else 0 for w in wanted)


def parse_snmp(data: bytes) -> list[float]:
    """TCP then UDP numbers in the order of _TCP and _UDP. Raises NoData or Broken."""
    return [*parse_pairs(data, b"Tcp:", _names(_TCP)), *parse_pairs(data, b"Udp:", _names(_UDP))]


def parse_netstat(data: bytes) -> list[float]:
    """TcpExt numbers in the order of _EXT. Raises NoData or Broken."""
    return parse_pairs(data, b"TcpExt:", _names(_EXT))


def parse_sockstat(data: bytes) -> list[float]:
    """Numbers of the line TCP in the order of _SOCKETS. Raises NoData or Broken."""
    if not data:
        raise NoData("empty")
    at = data.find(b"TCP:")
    end = data.find(b"\n", at)
    if at < 0 or end < 0:
        raise Broken("no line 'TCP:'")
    line = data[at:end + 1]
    return [value_after(line, key) for _, key in _SOCKETS]


def parse_snmp6(data: bytes) -> list[float]:
    """UDP over IPv6 in the order of _UDP. Raises NoData for an empty file."""
    if not data:
        raise NoData("empty")
    lines = b"\n" + data
    return [value_after(lines, b"\nUdp6" + name) for _, name in _UDP]


@lru_cache(maxsize=8)
def _names(pairs: Sequence[tuple[Column, bytes]]) -> tuple[bytes, ...]:
    return tuple(name for _, name in pairs)


@dataclass(frozen=True, slots=True)
class Config:
    """No settings."""


class Tcp:
    """Collector of the SNMP counters of the network stack."""

    def __init__(self, config: Config) -> None:
        self._fixed = Fixed([c.series() for c in COLUMNS])
        self._sources: Sources | None = None

    def open(self, root: Path) -> None:
        """Raises NoData or Broken."""
        self._sources = Sources("tcp", root, PATHS)

    def collect(self, t_ns: int) -> Reading:
        """One reading. Raises NoData or Broken when no file can be read."""
        if self._sources is None:
            raise NoData("not open")
        parse = self._sources.parse
        snmp = parse(0, parse_snmp) or [NAN] * (len(_TCP) + len(_UDP))
        netstat = parse(1, parse_netstat) or [NAN] * len(_EXT)
        sockets = parse(2, parse_sockstat) or [NAN] * len(_SOCKETS)
        # Without IPv6 there is nothing to add; a file that is there but odd must not make the sum jump.
        udp6 = parse(3, parse_snmp6) or [NAN if self._sources.has(3) else 0.0] * len(_UDP)
        udp = [v4 + v6 for v4, v6 in zip(snmp[len(_TCP):], udp6, strict=True)]
        values = [*snmp[:len(_TCP)], *netstat, *sockets, *udp]
        weights = [0.0] * len(values)
        weights[_RATIO] = snmp[_OUT_SEGS]
        return self._fixed.reading(values, weights, self._sources.events(t_ns))

    def close(self) -> None:
        """May be called twice."""
        if self._sources is not None:
            self._sources.close()


COLLECTOR = CollectorSpec(
    name="tcp", config=Config, build=Tcp, reads="/proc/net/{snmp,netstat,sockstat,snmp6}", emits=emits(COLUMNS),
    source="Documentation/networking/snmp_counter.rst",
)
