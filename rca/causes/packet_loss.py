"""Packets are lost between this host and its peers."""

from rca.network_culprits import NOBODY_LISTENS, lossy_peer_and_sender
from rca.spec import CauseSpec, Check, Table

DEVICE = (
    Check("network_receive_drops_per_second", ">=", 5.0, factor=3.0),
    Check("network_transmit_drops_per_second", ">=", 5.0, factor=3.0),
    Check("network_receive_errors_per_second", ">=", 1.0, factor=3.0),
    Check("network_transmit_errors_per_second", ">=", 1.0, factor=3.0),
    Check("network_qdisc_drops_per_second", ">=", 5.0, factor=3.0),
    Check("network_backlog_drops_per_second", ">=", 1.0, factor=3.0),
)
RESENT = (
    Check("net_retransmits_per_second", ">=", 1.5, "mean", 3.0),
    Check("tcp_retransmit_ratio", ">=", 0.02, "mean", 3.0),
    Check("tcp_retransmits_per_second", ">=", 1.5, "mean", 3.0),
    Check("tcp_syn_retransmits_per_second", ">=", 0.5, "mean", 3.0),
)
DROPPED = (Check("net_drops_per_second", ">=", 2.0, "mean", 3.0, but=NOBODY_LISTENS),)

CAUSE = CauseSpec(
    id="packet_loss",
    title="packet loss",
    mechanism="Packets are dropped on the way, so senders wait for a time-out and send them again.",
    source="RFC 6298 (retransmission timer); kernel tracepoints tcp:tcp_retransmit_skb, skb:kfree_skb",
    alerts=("PacketLoss",),
    tables=(Table(
        needs=((*RESENT, *DROPPED, *DEVICE),),
        supports=(*DROPPED, *DEVICE),
    ),),
    headlines=("Packets to {who} are being lost", "Packets are being lost"),
    summary=(
        "TCP has to send segments again: {net_retransmits_per_second} {net_retransmits_per_second:seen}.",
        "Of the TCP segments of the host {tcp_retransmit_ratio} were sent again {tcp_retransmit_ratio:ref}.",
        "{claim} {blame:ref}.",
        "The kernel of this host itself drops packets: {net_drops_per_second}, reason {net_drops_per_second:what} "
        "{net_drops_per_second:ref}.",
    ),
    tell_apart="retransmissions per peer and the reason of drops (eBPF net), and the drop counters of each link",
    specific=2,
    blame=lossy_peer_and_sender,
)
