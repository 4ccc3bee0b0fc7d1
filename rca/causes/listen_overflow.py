"""A listening socket gets connections faster than its program accepts them."""

from rca.network_culprits import NOBODY_LISTENS, full_listener
from rca.socket_culprits import handshakes_completed
from rca.spec import CauseSpec, Check, Shown, Table

COOKIES, COOKIES_BACK = "tcp_syn_cookies_sent_per_second", "tcp_syn_cookies_returned_per_second"

CAUSE = CauseSpec(
    id="listen_overflow",
    title="full accept queue",
    mechanism="A server accepts connections more slowly than they arrive; its queue is full and the rest is dropped.",
    source="kernel docs networking/snmp_counter (TcpExtListenOverflows, TcpExtListenDrops), listen(2)",
    alerts=("ListenOverflow", "PacketLoss", "SynFlood"),
    tables=(
        Table(
            needs=((Check(COOKIES, ">=", 2.0, "mean", 3.0),), (Shown(handshakes_completed, (COOKIES, COOKIES_BACK)),)),
            supports=(Check("tcp_syn_retransmits_per_second", ">=", 0.5, "mean", 3.0),
                      Check("tcp_listen_drops_per_second", ">=", 0.5, "mean", 3.0)),
            headlines=("More clients come at once than {who} has room for",
                       "More clients come at once than a listener has room for"),
            summary=(
                "The queue of half-open connections is full, so the kernel answers with SYN cookies: "
                "{tcp_syn_cookies_sent_per_second} {tcp_syn_cookies_sent_per_second:seen}.",
                "Most come back, so these are real clients and no flood: {tcp_syn_cookies_returned_per_second} "
                "{tcp_syn_cookies_returned_per_second:ref}.",
                "{claim} {blame:ref}.",
            ),
        ),
        Table(
            needs=((Check("tcp_listen_overflows_per_second", ">=", 0.5, "mean", 3.0),),),
            supports=(
                Check("tcp_listen_drops_per_second", ">=", 0.5, "mean", 3.0),
                Check("tcp_syn_retransmits_per_second", ">=", 0.5, "mean", 3.0),
                Check("net_drops_per_second", ">=", 1.0, "mean", 3.0, but=NOBODY_LISTENS),
                Check("listen_queue_used_ratio", ">=", 0.80, "peak"),
                Check("cpu_busy_ratio", "<=", 0.90),
            ),
        ),
    ),
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
