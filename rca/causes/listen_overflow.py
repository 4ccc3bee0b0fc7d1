"""A listening socket gets connections faster than its program accepts them."""

from rca.network_culprits import full_listener
from rca.spec import CauseSpec, Check, Table

CAUSE = CauseSpec(
    id="listen_overflow",
    title="full accept queue",
    mechanism="A server accepts connections more slowly than they arrive; its queue is full and the rest is dropped.",
    source="kernel docs networking/snmp_counter (TcpExtListenOverflows, TcpExtListenDrops), listen(2)",
    alerts=("ListenOverflow", "PacketLoss"),
    tables=(Table(
        needs=((Check("tcp_listen_overflows_per_second", ">=", 0.5, "mean", 3.0),),),
        supports=(
            Check("tcp_listen_drops_per_second", ">=", 0.5, "mean", 3.0),
            Check("tcp_syn_retransmits_per_second", ">=", 0.5, "mean", 3.0),
            Check("net_drops_per_second", ">=", 1.0, "mean", 3.0),
            Check("listen_queue_used_ratio", ">=", 0.80, "peak"),
            Check("cpu_busy_ratio", "<=", 0.90),
        ),
    ),),
    headlines=("{who} does not accept its connections fast enough",
               "A server does not accept its connections fast enough",),
    summary=(
        "The kernel turns connections away because an accept queue is full: {tcp_listen_overflows_per_second} "
        "{tcp_listen_overflows_per_second:ref}.",
        "SYN segments have to be repeated: {tcp_syn_retransmits_per_second} {tcp_syn_retransmits_per_second:ref}.",
        "{claim} {blame:ref}.",
        "Which socket {unnamed} leaves full shows in the Recv-Q column of: ss -ltn.",
    ),
    tell_apart="ss -ltn shows which socket has a full queue (Recv-Q above Send-Q)",
    explains=("packet_loss", "connect_failures"),
    specific=2,
    blame=full_listener,
    culprit_needed=False,
)
