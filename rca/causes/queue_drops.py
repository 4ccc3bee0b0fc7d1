"""A queueing discipline of this host drops what it cannot send in time."""

from rca.network_culprits import overrun_queue
from rca.spec import CauseSpec, Check, Table

REASONS = ("QDISC_DROP", "QDISC_OVERLIMIT", "FQ_BAND_LIMIT", "FQ_FLOW_LIMIT")

CAUSE = CauseSpec(
    id="queue_drops",
    title="packets dropped by the host's own queue",
    mechanism="More is sent through an interface than its queueing discipline (a shaper, a rate limit, a short queue) "
    "lets out, so it drops the rest; nobody but TCP notices.",
    source="tc(8); kernel drop reasons (include/net/dropreason-core.h), skb:kfree_skb",
    alerts=("QueueDrops",),
    tables=(Table(
        needs=(tuple(Check("net_drops_per_second", ">=", 30.0, "mean", 3.0, labels=(("reason", reason),))
                     for reason in REASONS),),
        supports=(Check("network_qdisc_drops_per_second", ">=", 5.0, "peak", 3.0),
                  Check("network_qdisc_backlog_bytes", ">=", 1.0, "peak", 3.0),
                  Check("net_retransmits_per_second", ">=", 1.5, "mean", 3.0)),
    ),),
    headlines=("{who}: more is sent than the queue lets out", "A queue of this host drops what it should send"),
    summary=(
        "A queueing discipline of this host drops packets: {net_drops_per_second} {net_drops_per_second:seen}.",
        "{claim} {blame:ref}.",
        "TCP has to send segments again: {net_retransmits_per_second} {net_retransmits_per_second:ref}.",
        "Nobody is told but TCP: datagrams dropped there are in no counter of the sender.",
    ),
    tell_apart="tc -s qdisc in the network namespace of who sends: dropped and overlimits grow",
    explains=("packet_loss",),
    hard=True,
    specific=3,
    blame=overrun_queue,
    culprit_needed=False,
)
