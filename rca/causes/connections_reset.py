"""Connections that stood are broken off: by a program of this host, or by its peers."""

from rca.reset_culprits import RATIO, REASONS, resetter, usual_share, why_reset
from rca.spec import CauseSpec, Check, Shown, Table

BROKEN = "net_connections_reset_per_second"

CAUSE = CauseSpec(
    id="connections_reset",
    title="connections broken off by resets",
    mechanism="One side ends connections by a reset instead of closing them, so what is on its way is lost and the "
    "other side gets an error (ECONNRESET).",
    source="RFC 9293, 3.10.4 and 3.10.7.4; kernel tracepoints sock:inet_sock_set_state, tcp:tcp_send_reset",
    alerts=("ConnectionsReset",),
    tables=(Table(
        needs=((Check(BROKEN, ">=", 10.0, "mean", 3.0),),),
        supports=(Check(RATIO, ">=", 0.05, "now", 3.0),
                  Check("tcp_resets_received_per_second", ">=", 5.0, "mean", 3.0),
                  Check("tcp_resets_sent_per_second", ">=", 5.0, "mean", 3.0),
                  Shown(why_reset, (REASONS,))),
        refutes=(Shown(usual_share, (RATIO,)),),
    ),),
    headlines=("{who} breaks connections off", "Connections are broken off by resets"),
    summary=(
        "Connections that stood are ended by a reset: {net_connections_reset_per_second} "
        "{net_connections_reset_per_second:seen}.",
        "{claim} {blame:ref}.",
        "Of all connections that ended that is {net_connections_reset_ratio} {net_connections_reset_ratio:seen}.",
        "The kernel tells why it resets them: {why_reset:told} {why_reset:ref}.",
        "What the other side had not read yet is lost, and it gets an error instead of an end.",
    ),
    tell_apart="resets by program, port and peer (eBPF connect) and their reason (net_resets_by_reason_per_second); "
    "nstat -az TcpEstabResets TcpOutRsts, and ss -tanp on both ends",
    specific=2,
    blame=resetter,
)
