"""The connection tracking table is full."""

from rca.socket_culprits import tracked_by, tracked_in
from rca.spec import CauseSpec, Check, Happened, Table

CAUSE = CauseSpec(
    id="conntrack_full",
    title="full connection tracking table",
    mechanism="Netfilter has no room for another connection in its table and drops the packets of every new one.",
    source="kernel docs networking/nf_conntrack-sysctl (nf_conntrack_max)",
    alerts=("ConntrackFull", "PacketLoss"),
    tables=(Table(
        label="netns",
        needs=((Happened(("conntrack_table_full",)),),),
        supports=(Happened(("namespace_losses",)),
                  Check("net_drops_per_second", ">=", 1.0, "mean", 3.0)),
        headlines=("The connection tracking table of {who} is full",
                   "The connection tracking table of network namespace {entity} is full"),
        summary=(
            "The kernel says that the table of network namespace {entity} is full and that it drops packets "
            "{conntrack_table_full:ref}.",
            "{claim} {blame:ref}.",
            "The limit is that of the whole host, each namespace is held to it on its own.",
        ),
    ), Table(
        needs=((Check("conntrack_used_ratio", ">=", 0.95, "peak"),
                Check("conntrack_drops_per_second", ">=", 0.3, "mean")),),
        supports=(Check("conntrack_drops_per_second", ">=", 0.3, "mean"),
                  Check("conntrack_early_drops_per_second", ">=", 1.0, "mean", 3.0),
                  Happened(("conntrack_crowd",)),
                  Check("net_drops_per_second", ">=", 1.0, "mean", 3.0),
                  Check("tcp_syn_retransmits_per_second", ">=", 0.5, "mean", 3.0)),
        refutes=(Check("conntrack_used_ratio", "<=", 0.70, "peak", why="the table has room"),),
    ),),
    headlines=("{who} fills the connection tracking table ({conntrack_used_ratio})",
               "The connection tracking table is full ({conntrack_used_ratio})"),
    summary=(
        "{conntrack_used_ratio} of the connection tracking table is in use {conntrack_used_ratio:seen}.",
        "{claim} {blame:ref}.",
        "Packets of new connections are dropped for want of a place: {conntrack_drops_per_second} "
        "{conntrack_drops_per_second:ref}.",
        "Unanswered connections are forgotten early to make room: {conntrack_early_drops_per_second} "
        "{conntrack_early_drops_per_second:ref}.",
        "The kernel drops packets: {net_drops_per_second} {net_drops_per_second:ref}.",
    ),
    tell_apart="nf_conntrack_count against nf_conntrack_max, and 'table full' in the kernel log",
    explains=("packet_loss", "exhaustion_ahead", "connect_failures"),
    hard=True,
    specific=3,
    blame=lambda scene, entity: tracked_in(scene, entity) if entity else tracked_by(scene, entity),
    culprit_needed=False,
)
