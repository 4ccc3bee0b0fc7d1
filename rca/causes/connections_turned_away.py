"""Others ask this host for connections at a port where nobody listens (any more)."""

from rca.reset_culprits import knocker
from rca.spec import CauseSpec, Check, Table

TURNED_AWAY = "net_turned_away_per_second"

CAUSE = CauseSpec(
    id="connections_turned_away",
    title="connections to a port where nobody listens",
    mechanism="Other hosts or containers ask for connections at a port of this host where no program listens: its "
    "server has ended or never started, or somebody looks for open ports.",
    source="RFC 9293, 3.10.7.1; kernel tracepoint tcp:tcp_send_reset (reason NO_SOCKET)",
    alerts=("ConnectionsTurnedAway",),
    tables=(Table(
        needs=((Check(TURNED_AWAY, ">=", 10.0, "mean", 3.0),),),
        supports=(Check("tcp_resets_sent_per_second", ">=", 5.0, "mean", 3.0),
                  Check("net_drops_per_second", ">=", 5.0, "mean", 3.0, (("reason", "NO_SOCKET"),))),
    ),),
    headlines=("{who} asks for connections where nobody listens", "Nobody listens where others ask for connections"),
    summary=(
        "Connections from outside are turned away: {net_turned_away_per_second} {net_turned_away_per_second:seen}.",
        "{claim} {blame:ref}.",
        "Either its server is gone, or the client has a wrong address or port.",
    ),
    tell_apart="ss -ltn at this host: whether anybody listens at the port; systemctl --failed",
    specific=2,
    blame=knocker,
)
