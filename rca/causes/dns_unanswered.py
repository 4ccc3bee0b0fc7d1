"""A name server does not answer."""

from rca.lookup_culprits import mute_server
from rca.spec import CauseSpec, Check, Happened, Table

CAUSE = CauseSpec(
    id="dns_unanswered",
    title="name server without an answer",
    mechanism="Programs ask a name server that does not answer and wait for seconds before each of their connections.",
    source="resolv.conf(5): timeout, attempts; proc_net_udp(5)",
    alerts=("LookupsHang",),
    tables=(Table(
        label="server",
        needs=((Happened(("lookups_unanswered",)),),),
        supports=(Check("dns_lookups_waiting", ">=", 1.0, "peak"),
                  Check("net_drops_per_second", ">=", 0.3, "mean", 3.0),
                  Check("network_link_up", "<=", 0.0, "last")),
        refutes=(Check("dns_lookups_waiting", "<=", 0.0, "peak", why="no lookup waits"),),
    ),),
    headlines=("Name server {entity} does not answer",),
    summary=(
        "{claim} {blame:ref}.",
        "Lookups that have waited for more than 5 seconds at one moment: {dns_lookups_waiting} "
        "{dns_lookups_waiting:ref}.",
        "Whatever needs a name is slow by the time-out of its resolver (5 seconds by default), and looks healthy else.",
    ),
    tell_apart="dig @SERVER from this host, and ss -uanp dport = 53: the same sockets for seconds",
    explains=("dns_slow",),
    hard=True,
    specific=3,
    blame=mute_server,
    culprit_needed=False,
)
