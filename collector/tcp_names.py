"""Names for the counters of /proc/net/snmp, netstat and snmp6, and for what /proc/net/sockstat and sockstat6 hold.

Source: Linux net/ipv4/proc.c, net/ipv6/proc.c, net/mptcp/mib.c; Documentation/networking/snmp_counter.rst
"""

import re

from collector.table import Column
from etio.core.series import Series


def _rate(name: str, text: str) -> Column:
    return Column(name, "1/s", "counter", text)


def _gauge(name: str, text: str, unit: str = "1") -> Column:
    return Column(name, unit, "gauge", text)


RETRANSMIT_RATIO = Column("tcp_retransmit_ratio", "ratio", "mean", "segments sent again over segments sent")
MEMORY_PRESSURE = Column("tcp_memory_pressure_ratio", "ratio", "counter", "share of time over the pressure mark of "
                         "net.ipv4.tcp_mem")
NAMED = {
    "Tcp:OutSegs": _rate("tcp_segments_sent_per_second", "segments sent, without pure retransmits"),
    "Tcp:InSegs": _rate("tcp_segments_received_per_second", "segments received, bad ones included"),
    "Tcp:RetransSegs": _rate("tcp_retransmits_per_second", "segments sent again"),
    "Tcp:OutRsts": _rate("tcp_resets_sent_per_second", "segments sent with RST"),
    "Tcp:EstabResets": _rate("tcp_resets_received_per_second", "established connections that were reset"),
    "Tcp:ActiveOpens": _rate("tcp_active_opens_per_second", "connections opened from here"),
    "Tcp:AttemptFails": _rate("tcp_attempt_fails_per_second", "connection attempts that failed"),
    "Tcp:CurrEstab": _gauge("tcp_established", "connections ESTABLISHED or CLOSE-WAIT"),
    "TcpExt:ListenOverflows": _rate("tcp_listen_overflows_per_second",
                                    "connections refused because an accept queue was full"),
    "TcpExt:ListenDrops": _rate("tcp_listen_drops_per_second",
                                "connections refused by a listening socket for any reason"),
    "TcpExt:SyncookiesSent": _rate("tcp_syn_cookies_sent_per_second", "SYN cookies sent: a queue of half-open "
                                   "connections was full"),
    "TcpExt:SyncookiesRecv": _rate("tcp_syn_cookies_returned_per_second", "connections made by a SYN cookie"),
    "TcpExt:TCPReqQFullDrop": _rate("tcp_syn_queue_drops_per_second", "SYNs dropped because a queue of half-open "
                                    "connections was full and SYN cookies are off"),
    "TcpExt:TCPSynRetrans": _rate("tcp_syn_retransmits_per_second", "SYN or SYN/ACK sent again"),
    "TcpExt:TCPMemoryPressuresChrono": MEMORY_PRESSURE,
    "MPTcpExt:MPCurrEstab": _gauge("mptcp_established", "connections of Multipath TCP"),
    "TCP tw": _gauge("tcp_time_wait", "sockets in TIME-WAIT"),
    "TCP mem": _gauge("tcp_memory_pages", "pages all TCP sockets hold (limit: net.ipv4.tcp_mem)", "pages"),
    "TCP inuse": _gauge("tcp_sockets", "TCP sockets over IPv4, without TIME-WAIT"),
    "TCP orphan": _gauge("tcp_orphans", "TCP sockets that no process holds any more (limit: net.ipv4.tcp_max_orphans)"),
    "TCP alloc": _gauge("tcp_sockets_allocated", "TCP sockets in any state, on the whole host"),
    "UDP inuse": _gauge("udp_sockets", "UDP sockets over IPv4"),
    "UDP mem": _gauge("udp_memory_pages", "pages all UDP sockets hold (limit: net.ipv4.udp_mem)", "pages"),
    "UDPLITE inuse": _gauge("udplite_sockets", "UDP-Lite sockets over IPv4"),
    "RAW inuse": _gauge("ip_raw_sockets", "raw sockets over IPv4"),
    "FRAG inuse": _gauge("ip_fragment_queues", "IPv4 packets that wait for their fragments"),
    "FRAG memory": _gauge("ip_fragment_memory_bytes", "memory of IPv4 fragments", "bytes"),
    "sockets used": _gauge("network_sockets", "sockets of every kind"),
    "TCP6 inuse": _gauge("tcp6_sockets", "TCP sockets over IPv6, without TIME-WAIT"),
    "UDP6 inuse": _gauge("udp6_sockets", "UDP sockets over IPv6"),
    "UDPLITE6 inuse": _gauge("udplite6_sockets", "UDP-Lite sockets over IPv6"),
    "RAW6 inuse": _gauge("ip6_raw_sockets", "raw sockets over IPv6"),
    "FRAG6 inuse": _gauge("ip6_fragment_queues", "IPv6 packets that wait for their fragments"),
    "FRAG6 memory": _gauge("ip6_fragment_memory_bytes", "memory of IPv6 fragments", "bytes"),
}
"""Series by the kernel's name: "Protocol:Counter" of snmp, netstat and snmp6, "LINE word" of sockstat."""
SCALES = {"TcpExt:TCPMemoryPressuresChrono": 1e-3}
UDP_SUMS = {
    "InDatagrams": _rate("udp_datagrams_received_per_second", "datagrams delivered"),
    "RcvbufErrors": _rate("udp_receive_buffer_errors_per_second", "datagrams lost because a socket's buffer was full"),
}
"""Added up over IPv4 and IPv6."""
PREFIXES = {
    "Ip": "ip", "Icmp": "icmp", "Tcp": "tcp", "Udp": "udp", "UdpLite": "udplite", "TcpExt": "tcp_ext",
    "IpExt": "ip_ext", "MPTcpExt": "mptcp", "Ip6": "ip6", "Icmp6": "icmp6", "Udp6": "udp6", "UdpLite6": "udplite6",
}
COLUMNS = (
    *NAMED.values(), RETRANSMIT_RATIO, *UDP_SUMS.values(),
    *(_rate(f"{prefix}_*_per_second", f"any other counter {protocol} of /proc/net/snmp, netstat or snmp6, "
            "under the kernel's name for it") for protocol, prefix in PREFIXES.items()),
    *(Column(f"{prefix}_*_octets_per_second", "bytes/s", "counter", f"bytes, as {protocol} counts them")
      for protocol, prefix in PREFIXES.items() if protocol in ("IpExt", "Ip6")),
)
_CONSTANTS = frozenset((
    "Ip:Forwarding", "Ip:DefaultTTL", "Tcp:RtoAlgorithm", "Tcp:RtoMin", "Tcp:RtoMax", "Tcp:MaxConn",
))
_BY_TYPE = re.compile(r"(In|Out)Type\d+$")
"""ICMP by number of its type: lines that come with the first such message, and mostly said under a name already."""
_SNMP6 = re.compile(r"(Ip6|Icmp6|UdpLite6|Udp6)(\w+)$")
_PLURALS = (("ACKs", "Acks"), ("OKs", "Oks"), ("MLDv2", "Mldv2"), ("RTOs", "Rtos"))


def full_name6(name: str) -> str:
    """The "Protocol:Counter" of a line of snmp6; as it is where it has no known protocol."""
    found = _SNMP6.match(name)
    return f"{found[1]}:{found[2]}" if found else name


def other_series(full_name: str) -> Series | None:
    """The series of a counter that has no name of our own; None where it is a constant or of no known protocol.

    >>> other_series("TcpExt:TCPSACKReneging").name
    'tcp_ext_sack_reneging_per_second'
    """
    protocol, _, counter = full_name.partition(":")
    prefix = PREFIXES.get(protocol)
    if prefix is None or full_name in _CONSTANTS or not counter or _BY_TYPE.match(counter):
        return None
    unit = "bytes/s" if counter.endswith("Octets") else "1/s"
    return Series(f"{prefix}_{snake(counter)}_per_second", unit, "counter")


def snake(counter: str) -> str:
    """A name of the kernel's in snake case, without the protocol in front.

    >>> [snake(c) for c in ("TCPDelayedACKs", "InECT1Pkts", "ReasmOKs", "MPTCPRetrans", "TCPOFOQueue")]
    ['delayed_acks', 'in_ect1_pkts', 'reasm_oks', 'retrans', 'ofo_queue']
    """
    for old, new in _PLURALS:
        counter = counter.replace(old, new)
    counter = re.sub(r"^(MPTCP|TCP|Tcp)(?=[A-Z])", "", counter)
    counter = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", counter)
    counter = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", counter)
    return re.sub(r"[^a-z0-9]+", "_", counter.lower())
