"""No local port is left for another connection to a peer."""

from rca.exhausted import port_user
from rca.spec import CauseSpec, Check, Happened, Table

CAUSE = CauseSpec(
    id="ports_exhausted",
    title="local ports used up",
    mechanism="All local ports towards one peer are in use or wait in TIME_WAIT, so connect fails with EADDRNOTAVAIL.",
    source="connect(2): EADDRNOTAVAIL; kernel docs networking/ip-sysctl (ip_local_port_range, tcp_tw_reuse)",
    alerts=("PortsExhausted",),
    tables=(Table(
        label="peer",
        needs=((Happened(("ports_exhausted",)),),),
        supports=(Check("tcp_local_ports_used_ratio", ">=", 0.90, "peak"),
                  Check("tcp_time_wait", ">=", 1000.0, factor=3.0),
                  Check("tcp_active_opens_per_second", ">=", 50.0, "mean", 3.0)),
    ),),
    headlines=("{who} has used up the local ports towards {entity}", "No local port is left towards {entity}"),
    summary=(
        "{claim} {blame:ref}.",
        "Sockets in TIME_WAIT: {tcp_time_wait} {tcp_time_wait:seen}.",
        "New connections are opened at {tcp_active_opens_per_second} {tcp_active_opens_per_second:ref}.",
    ),
    tell_apart="ss -tan by peer, against net.ipv4.ip_local_port_range",
    explains=("connect_failures",),
    hard=True,
    specific=3,
    blame=port_user,
    culprit_needed=False,
)
