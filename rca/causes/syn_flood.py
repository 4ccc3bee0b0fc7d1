"""Connections are asked for that nobody means to complete."""

from rca.socket_culprits import flooded_port, flooder, half_open_crowd, handshakes_completed, not_accepted
from rca.spec import CauseSpec, Check, Happened, Shown, Table

COOKIES = "tcp_syn_cookies_sent_per_second"
COOKIES_BACK = "tcp_syn_cookies_returned_per_second"
OVERFLOWS = "tcp_listen_overflows_per_second"

CAUSE = CauseSpec(
    id="syn_flood",
    title="flood of connection requests",
    mechanism="Somebody asks for connections and never completes them; the queue of half-open ones is full, so the "
    "kernel answers with SYN cookies or drops the requests of everybody.",
    source="RFC 4987; kernel docs networking/ip-sysctl (tcp_syncookies, tcp_max_syn_backlog)",
    alerts=("SynFlood",),
    tables=(Table(
        needs=((Check(COOKIES, ">=", 2.0, "mean", 3.0),
                Check("tcp_syn_queue_drops_per_second", ">=", 2.0, "mean", 3.0)),),
        supports=(Shown(half_open_crowd),
                  Happened(("syn_flood_warning",)),
                  Shown(flooded_port),
                  Check("tcp_state_sockets", ">=", 32.0, "peak", labels=(("state", "syn_recv"),)),
                  Check("tcp_syn_retransmits_per_second", ">=", 2.0, "mean", 3.0)),
        refutes=(Shown(handshakes_completed, (COOKIES, COOKIES_BACK)),
                 Shown(not_accepted, (COOKIES, OVERFLOWS))),
    ),),
    headlines=("{who} floods this host with connection requests", "This host is flooded with connection requests"),
    summary=(
        "The queue of half-open connections is full, and the kernel answers with SYN cookies: "
        "{tcp_syn_cookies_sent_per_second} {tcp_syn_cookies_sent_per_second:seen}.",
        "The queue of half-open connections is full, and the kernel drops requests: "
        "{tcp_syn_queue_drops_per_second} {tcp_syn_queue_drops_per_second:seen}.",
        "{claim} {blame:ref}.",
        "{flooded_port:said} {flooded_port:ref}.",
        "Answers of ours are sent again and again: {tcp_syn_retransmits_per_second} "
        "{tcp_syn_retransmits_per_second:ref}.",
    ),
    tell_apart="cookies sent against cookies returned (nstat TcpExtSyncookiesSent, TcpExtSyncookiesRecv), and whether "
    "the accept queue is full (ss -ltn: Recv-Q)",
    explains=("packet_loss",),
    specific=3,
    blame=flooder,
    culprit_needed=False,
)
