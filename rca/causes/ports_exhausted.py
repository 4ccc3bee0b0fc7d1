"""No local port is left for another connection to a peer."""

from rca.exhausted import port_user
from rca.socket_culprits import without_port
from rca.spec import CauseSpec, Check, Happened, Table

NO_PORT = Check("net_connect_failures_per_second", ">=", 0.3, "mean", labels=(("reason", "no_local_port"),))
SUPPORTS = (
    Check("tcp_local_ports_used_ratio", ">=", 0.90, "peak"),
    Check("tcp_time_wait", ">=", 1000.0, factor=3.0),
    Check("tcp_active_opens_per_second", ">=", 50.0, "mean", 3.0),
)

CAUSE = CauseSpec(
    id="ports_exhausted",
    title="local ports used up",
    mechanism="All local ports towards one peer are in use or wait in TIME_WAIT, so connect fails with EADDRNOTAVAIL.",
    source="connect(2): EADDRNOTAVAIL; kernel docs networking/ip-sysctl (ip_local_port_range, tcp_tw_reuse)",
    alerts=("PortsExhausted",),
    tables=(
        Table(
            label="peer",
            needs=((Happened(("ports_exhausted",)),),),
            supports=(NO_PORT, *SUPPORTS),
        ),
        Table(
            needs=((NO_PORT,),),
            supports=SUPPORTS,
            refutes=(Happened(("ports_exhausted",), why="it is known towards which peer"),),
            headlines=("{who} finds no local port for its connections", "Connections find no local port"),
        ),
    ),
    headlines=("{who} has used up the local ports towards {entity}", "No local port is left towards {entity}"),
    summary=(
        "{claim} {blame:ref}.",
        "connect fails for want of a local port: {net_connect_failures_per_second} "
        "{net_connect_failures_per_second:ref}.",
        "Sockets in TIME_WAIT: {tcp_time_wait} {tcp_time_wait:seen}.",
        "New connections are opened at {tcp_active_opens_per_second} {tcp_active_opens_per_second:ref}.",
    ),
    tell_apart="ss -tan by peer, against net.ipv4.ip_local_port_range",
    explains=("connect_failures",),
    hard=True,
    specific=3,
    blame=lambda scene, entity: port_user(scene, entity) if entity else without_port(scene, entity),
    culprit_needed=False,
)
