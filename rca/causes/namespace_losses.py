"""Something is lost inside a network namespace of a container, which no counter of the host shows."""

from rca.socket_culprits import dweller
from rca.spec import CauseSpec, Check, Happened, Table

CAUSE = CauseSpec(
    id="namespace_losses",
    title="losses inside a container's network",
    mechanism="Packets or connections are lost in a network namespace other than the host's own; the counters of the "
    "host do not show them.",
    source="network_namespaces(7); kernel docs networking/snmp_counter",
    alerts=("NamespaceLosses",),
    tables=(Table(
        label="namespace",
        needs=((Happened(("namespace_losses",)),),),
        supports=(Check("net_drops_per_second", ">=", 1.0, "mean", 3.0),
                  Check("net_retransmits_per_second", ">=", 1.0, "mean", 3.0),
                  Check("net_resets_sent_per_second", ">=", 5.0, "mean", 3.0)),
    ),),
    headlines=("{who} loses packets or connections in a network of its own",),
    summary=(
        "{claim} {blame:ref}.",
        "The kernel as a whole drops packets: {net_drops_per_second}, reason {net_drops_per_second:what} "
        "{net_drops_per_second:ref}.",
        "TCP has to send segments again, all namespaces: {net_retransmits_per_second} "
        "{net_retransmits_per_second:ref}.",
        "These losses are in none of the counters of the host itself.",
    ),
    tell_apart="the same counters inside: nsenter -t PID -n nstat -az; nsenter -t PID -n ip -s link",
    explains=("packet_loss", "connect_failures"),
    hard=True,
    specific=2,
    blame=dweller,
    culprit_needed=False,
)
