"""Reader of net.bcc.c: TCP retransmits and resets, and packets dropped for a reason that means loss.

Emits: net_retransmits_per_second, net_resets_sent_per_second, net_resets_received_per_second (all network
namespaces), net_resets_by_reason_per_second{reason} (since Linux 6.10; a reason appears with its first reset),
net_drops_per_second{reason} by the running kernel's own names of skb drop reasons. Of those, only
reasons that mean a packet was lost are emitted; a reason beyond the usual ones appears with its first drop.
net_turned_away_per_second: connections that others asked for at a port where nobody listens (since Linux 6.10).
Actors: retransmit and reset by peer address and port; turned_away by the peer's address and our port; queue_drop by
device and process.
"""

import os
from collections.abc import Callable, Mapping
from functools import partial
from ipaddress import IPv6Address
from typing import Any

import numpy as np

from collector.ebpf.families import HEAVY_SLOTS, HEAVY_TABLE, REASONS, RESET_REASONS
from collector.ebpf.heavy import Counts, HeavyTable, text
from collector.ebpf.maps import MappedArray
from collector.ebpf.reader import LateFamily, Values, symbols
from etio.core.facts import Actor, ActorKind
from etio.core.series import Series, labels

USUAL = ("NETFILTER_DROP", "SOCKET_RCVBUFF", "SOCKET_BACKLOG", "QDISC_DROP", "TCP_LISTEN_OVERFLOW", "NO_SOCKET",
         "CPU_BACKLOG", "PROTO_MEM", "NOMEM")
LOSS = frozenset(USUAL) | frozenset("""
    PKT_TOO_SMALL TCP_CSUM UDP_CSUM IP_CSUM ICMP_CSUM SKB_CSUM IP_INHDR IP_RPFILTER SOCKET_FILTER XFRM_POLICY
    IP_OUTNOROUTES IP_INNOROUTES IP_INADDRERRORS BPF_CGROUP_EGRESS NEIGH_CREATEFAIL NEIGH_FAILED NEIGH_QUEUEFULL
    NEIGH_DEAD NEIGH_HH_FILLFAIL TC_EGRESS TC_INGRESS XDP SECURITY_HOOK QDISC_OVERLIMIT QDISC_CONGESTED CAKE_FLOOD
    FQ_BAND_LIMIT FQ_HORIZON_LIMIT FQ_FLOW_LIMIT SKB_GSO_SEG SKB_UCOPY_FAULT DEV_HDR DEV_READY FULL_RING HDR_TRUNC
    PKT_TOO_BIG DUP_FRAG FRAG_REASM_TIMEOUT FRAG_TOO_FAR INVALID_PROTO TCP_ZEROWINDOW TCP_OVERWINDOW
    TCP_OFO_QUEUE_PRUNE TCP_OFO_DROP TCP_INVALID_SEQUENCE TCP_INVALID_END_SEQUENCE TCP_INVALID_ACK_SEQUENCE
    TCP_INVALID_SYN TCP_RFC7323_PAWS TCP_MD5NOTFOUND TCP_MD5UNEXPECTED TCP_MD5FAILURE TCP_AONOTFOUND
    TCP_AOUNEXPECTED TCP_AOKEYNOTFOUND TCP_AOFAILURE TCP_AUTH_HDR TCP_MINTTL VXLAN_INVALID_HDR VXLAN_VNI_NOT_FOUND
    """.split())  # noqa: SIM905 (names read better as words)
_EVENTS = (("tcp_retransmit_skb", "net_retransmits_per_second"), ("tcp_send_reset", "net_resets_sent_per_second"),
           ("tcp_receive_reset", "net_resets_received_per_second"))


_TURNED_AWAY = 1 << 16
"""In what goes with the address of a peer: the port is ours."""
_RESETS = 2 * HEAVY_TABLE + 8 * REASONS + 64
_QUEUES = _RESETS + 8 * RESET_REASONS
_MULTIPLIER = 0x9E3779B97F4A7C15


class Reader(LateFamily):
    """See the module's docstring."""

    def __init__(self, mapped: MappedArray, entry: dict[str, Any], cpus: int) -> None:
        super().__init__(entry)
        self._peers: tuple[tuple[ActorKind, HeavyTable], ...] = (
            ("retransmit", HeavyTable(mapped, 0)), ("reset", HeavyTable(mapped, HEAVY_TABLE)))
        self._reasons = mapped.view("<u8", 2 * HEAVY_TABLE, REASONS)
        self._counts = mapped.view("<u8", 2 * HEAVY_TABLE + 8 * REASONS, len(_EVENTS) + 1)
        on = {str(program["name"]) for program in entry["programs"]}
        self._on = [i for i, (event, _) in enumerate(_EVENTS) if event in on]
        self.series = [Series(_EVENTS[i][1], "1/s", "counter") for i in self._on]
        told = symbols(entry, "tcp_send_reset") if "tcp_send_reset" in on else {}
        if told and "SKB_TRANSPORT" in entry.get("offsets", ()):
            self._on.append(len(_EVENTS))
            self.series.append(Series("net_turned_away_per_second", "1/s", "counter"))
        names = symbols(entry, "kfree_skb") if "kfree_skb" in on else {}
        self._loss = {number: name for number, name in names.items() if name in LOSS and number < REASONS}
        self._why = {number: name for number, name in told.items() if 0 <= number < RESET_REASONS}
        self._resets = mapped.view("<u8", _RESETS, RESET_REASONS)
        self._droppers = HeavyTable(mapped, _QUEUES)
        self._keys = mapped.view("<u8", _QUEUES, HEAVY_SLOTS * 8).reshape(HEAVY_SLOTS, 8)[:, 0]
        self._devices = mapped.view("V24", _QUEUES + HEAVY_TABLE, HEAVY_SLOTS)
        self._own = _namespace()
        self._sources: list[tuple[int, int]] = []
        self._shown: set[int] = set()
        self._shown_resets: set[int] = set()
        for number, name in self._loss.items():
            if name in USUAL:
                self._show(number)

    def _show(self, number: int) -> None:
        self._shown.add(number)
        self._sources.append((0, number))
        self.series.append(Series("net_drops_per_second", "1/s", "counter", labels(reason=self._loss[number])))

    def _show_reset(self, number: int) -> None:
        self._shown_resets.add(number)
        self._sources.append((1, number))
        own = labels(reason=self._why[number])
        self.series.append(Series("net_resets_by_reason_per_second", "1/s", "counter", own))

    def grab(self) -> Callable[[], Values]:
        """See Family."""
        return partial(self._values, self._counts.copy(), (self._reasons.copy(), self._resets.copy()))

    def _values(self, counts: Counts, sources: tuple[Counts, Counts]) -> Values:
        reasons, resets = sources
        for number in np.flatnonzero(reasons).tolist():
            if number in self._loss and number not in self._shown:
                self._show(number)
        for number in np.flatnonzero(resets).tolist():
            if number in self._why and number not in self._shown_resets:
                self._show_reset(number)
        return [float(counts[i]) for i in self._on] + [float(sources[which][i]) for which, i in self._sources]

    def runs(self) -> Mapping[str, float]:
        """See Family."""
        return {"kfree_skb": float(self._reasons.sum()), **dict(zip(
            (event for event, _ in _EVENTS), map(float, self._counts), strict=False))}

    def actors(self) -> list[Actor]:
        """Peers that segments were sent to again, of reset connections, that asked for connections where nobody
        listens; and whose packets a queue dropped."""
        peers = [_peer(kind, bytes(row["name"]), int(row["aux"]), float(row["count"]))
                 for kind, table in self._peers for row in table.step()]
        return peers + [Actor("queue_drop", text(row["name"]), int(row["aux"]), count=float(row["count"]),
                              device=self._device(int(row["key"]))) for row in self._droppers.step()]

    def _device(self, key: int) -> str:
        """Name of the device of a slot, with its namespace where that is not ours; "" where another key took it."""
        first = ((key * _MULTIPLIER) >> 32) & (HEAVY_SLOTS - 1)
        for slot in (first, first ^ 1):
            if int(self._keys[slot]) == key:
                raw = bytes(self._devices[slot])
                return device(raw[:16], int.from_bytes(raw[16:20], "little"), self._own)
        return ""


def _namespace() -> int:
    """Inode of our own network namespace, 0 where it cannot be told."""
    try:
        return os.stat("/proc/self/ns/net").st_ino
    except OSError:
        return 0


def device(name: bytes, namespace: int, own: int) -> str:
    """A device as people call it; one of another network namespace with the number of that.

    >>> device(b"eth0\\0\\0", 7, 7), device(b"eth0", 4026532281, 7)
    ('eth0', 'eth0 of net:[4026532281]')
    """
    shown = text(name.split(b"\0", 1)[0])
    return shown if namespace in (0, own) else f"{shown} of net:[{namespace}]"


def _peer(kind: ActorKind, address: bytes, place: int, count: float) -> Actor:
    """What was done to a peer: with its own port, or at ours."""
    if place & _TURNED_AWAY:
        return Actor("turned_away", host(address), count=count, port=place & 0xFFFF)
    return Actor(kind, peer(address, place), count=count)


def host(address: bytes) -> str:
    """Address as people write it. `address`: at most 16 bytes of IPv6, trailing zeros may be missing.

    >>> host(bytes.fromhex("00000000000000000000ffff0a000002")), host(b"\xfe\x80")
    ('10.0.0.2', 'fe80::')
    """
    full = IPv6Address(address.ljust(16, b"\0"))
    return str(full.ipv4_mapped or full)


def peer(address: bytes, port: int) -> str:
    """Address and port as people write them. `address`: at most 16 bytes of IPv6, trailing zeros may be missing.

    >>> peer(bytes.fromhex("00000000000000000000ffff0a000002"), 80)
    '10.0.0.2:80'
    """
    shown = host(address)
    return f"[{shown}]:{port}" if ":" in shown else f"{shown}:{port}"
