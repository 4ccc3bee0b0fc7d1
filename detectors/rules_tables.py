"""Hard rules of what fills up in the network stack: local ports, connection requests, neighbours, tracked connections.
"""

from typing import TYPE_CHECKING

from detectors.rule import Condition, Rule

if TYPE_CHECKING:
    from detectors.rules import Config

CONNTRACK = "Documentation/networking/nf_conntrack-sysctl.rst"
SYSCTL = "Documentation/networking/ip-sysctl.rst"


def table_rules(c: "Config") -> tuple[Rule, ...]:
    """The rules with these thresholds."""
    no_port = (("reason", "no_local_port"),)
    return (
        Rule("PortsExhausted",
             (Condition("net_connect_failures_per_second", ">=", c.no_local_port_per_second, no_port),),
             "connect(2) fails with EADDRNOTAVAIL, in some network namespace", SYSCTL),
        Rule("SynFlood", (Condition("tcp_syn_cookies_sent_per_second", ">=", c.syn_cookies_per_second),),
             "the queue of half-open connections of a listener is full", SYSCTL),
        Rule("SynFlood", (Condition("tcp_syn_queue_drops_per_second", ">=", c.syn_queue_drops_per_second),),
             "the queue of half-open connections of a listener is full and SYN cookies are off", SYSCTL),
        Rule("NeighbourTableFull",
             (Condition("neighbour_overflows_per_second", ">=", c.neighbour_overflows_per_second),),
             "packets to hosts of our own networks are dropped", SYSCTL),
        Rule("TcpMemoryShort", (Condition("tcp_memory_pressure_ratio", ">=", c.tcp_memory_pressure_ratio),),
             "buffers of all connections are cut down", SYSCTL),
        Rule("TcpMemoryShort", (Condition("tcp_memory_used_ratio", ">=", c.tcp_memory_used_ratio),),
             "buffers of all connections are cut down for as long as this lasts", SYSCTL),
        Rule("ConntrackFull", (Condition("conntrack_used_ratio", ">=", c.conntrack_used_ratio),),
             "new connections are about to be dropped", CONNTRACK),
        Rule("ConntrackFull", (Condition("conntrack_drops_per_second", ">=", c.conntrack_drops_per_second),),
             "packets of new connections are dropped", CONNTRACK),
    )
