"""Connections to somebody else fail: nobody answers, or they are turned away."""

from rca.network_culprits import failing_peer
from rca.spec import CauseSpec, Check, Table

FAILURES = "net_connect_failures_per_second"
UNANSWERED = tuple(Check(FAILURES, ">=", 0.3, "mean", 3.0, (("reason", reason),))
                   for reason in ("abandoned", "timed_out", "unreachable"))
REFUSED = Check(FAILURES, ">=", 1.0, "mean", 3.0, (("reason", "refused"),))
SUPPORTS = (
    Check("net_connect_failure_ratio", ">=", 0.2),
    Check("tcp_syn_retransmits_per_second", ">=", 0.3, "mean", 3.0),
    Check("tcp_attempt_fails_per_second", ">=", 0.3, "mean", 3.0),
    Check("net_retransmits_per_second", ">=", 0.3, "mean", 3.0),
    Check("net_drops_per_second", ">=", 0.3, "mean", 3.0),
    Check("net_resets_received_per_second", ">=", 1.0, "mean", 3.0),
)

CAUSE = CauseSpec(
    id="connect_failures",
    title="connections that fail",
    mechanism="Programs of this host try to connect to a peer that does not answer, cannot be reached or refuses.",
    source="RFC 9293, RFC 6298; kernel tracepoint sock:inet_sock_set_state",
    alerts=("ConnectFailures",),
    tables=(
        Table(
            needs=(UNANSWERED,), supports=SUPPORTS,
            headlines=("Connections to {who} get no answer", "Outgoing connections get no answer"),
            summary=(
                "Outgoing connections never stand: {net_connect_failures_per_second}, reason "
                "{net_connect_failures_per_second:what} {net_connect_failures_per_second:seen}.",
                "{claim} {blame:ref}.",
                "SYN segments are sent again: {tcp_syn_retransmits_per_second} {tcp_syn_retransmits_per_second:ref}.",
                "Of all attempts that were decided {net_connect_failure_ratio} failed {net_connect_failure_ratio:ref}.",
            ),
        ),
        Table(
            needs=((REFUSED,),), supports=SUPPORTS, explains=(),  # the answer comes: nothing is lost on the way
            headlines=("{who} refuses connections", "Outgoing connections are refused"),
            summary=(
                "Outgoing connections are refused: {net_connect_failures_per_second} "
                "{net_connect_failures_per_second:seen}.",
                "{claim} {blame:ref}.",
                "The host is there, but nobody listens, or a firewall answers for it.",
            ),
        ),
    ),
    headlines=("Outgoing connections fail",),
    summary=(),
    tell_apart="connections that fail per peer and reason (eBPF connect); ss -tn state syn-sent shows who waits",
    explains=("packet_loss",),
    specific=3,
    blame=failing_peer,
)
