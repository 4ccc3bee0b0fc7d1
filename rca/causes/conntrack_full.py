"""The connection tracking table is full."""

from rca.culprits import kernel_table
from rca.spec import CauseSpec, Check, Table

CAUSE = CauseSpec(
    id="conntrack_full",
    title="full connection tracking table",
    mechanism="Netfilter has no room for another connection in its table and drops the packets of every new one.",
    source="kernel docs networking/nf_conntrack-sysctl (nf_conntrack_max)",
    alerts=("ConntrackFull", "PacketLoss"),
    tables=(Table(
        needs=((Check("conntrack_used_ratio", ">=", 0.95, "last"),),),
        supports=(Check("net_drops_per_second", ">=", 1.0, "mean", 3.0),
                  Check("tcp_syn_retransmits_per_second", ">=", 0.5, "mean", 3.0)),
    ),),
    headlines=("The connection tracking table is full ({conntrack_used_ratio})",),
    summary=(
        "{conntrack_used_ratio} of the connection tracking table is in use {conntrack_used_ratio:seen}.",
        "The packets of new connections are dropped: {net_drops_per_second} {net_drops_per_second:ref}.",
    ),
    tell_apart="nf_conntrack_count against nf_conntrack_max, and 'table full' in the kernel log",
    explains=("packet_loss", "exhaustion_ahead", "connect_failures"),
    hard=True,
    specific=3,
    blame=kernel_table,
    culprit_needed=False,
)
