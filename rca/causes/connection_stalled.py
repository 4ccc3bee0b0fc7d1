"""Connections that stand but carry nothing any more: the peer confirms nothing."""

from rca.network_culprits import NOBODY_LISTENS, silent_peer
from rca.spec import CauseSpec, Check, Happened, Table

CAUSE = CauseSpec(
    id="connection_stalled",
    title="peer that confirms nothing any more",
    mechanism="What a program sends on a standing connection is never confirmed: the peer is gone without a word, a "
    "firewall between has forgotten the connection, or the path swallows large packets.",
    source="RFC 6298 (each retry waits twice as long), RFC 2923 (path MTU black holes); tcp(7): tcp_retries2",
    alerts=("ConnectionsStalled",),
    tables=(Table(
        label="peer",
        needs=((Happened(("connections_stalled",)),),),
        supports=(Check("tcp_stalled_connections", ">=", 1.0, "peak"),
                  Check("net_retransmits_per_second", ">=", 0.1, "mean", 3.0),
                  Check("tcp_retransmits_per_second", ">=", 0.1, "mean", 3.0),
                  Check("net_drops_per_second", ">=", 0.3, "mean", 3.0, but=NOBODY_LISTENS)),
    ),),
    headlines=("{who} no longer confirms what is sent to it", "A peer no longer confirms what is sent to it"),
    summary=(
        "{claim} {blame:ref}.",
        "The program waits meanwhile; by default the kernel gives such a connection up after a quarter of an hour.",
    ),
    tell_apart="ss -tino state established: retransmissions of the oldest segment; ping -M do -s with the size of a "
    "full segment shows whether large packets pass",
    explains=("packet_loss",),
    hard=True,
    specific=3,
    blame=silent_peer,
    culprit_needed=False,
)
