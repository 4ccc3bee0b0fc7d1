"""Name lookups take long, but less than the time-out of the resolver."""

from rca.lookup_culprits import answers, slow_server
from rca.spec import CauseSpec, Check, Happened, Shown, Table

CAUSE = CauseSpec(
    id="dns_slow",
    title="name lookups that take long",
    mechanism="Programs wait for their name server before each of their connections: it answers late, or not at all "
    "and the resolver soon gives up or asks another.",
    source="resolv.conf(5): timeout, attempts; Little (1961), https://doi.org/10.1287/opre.9.3.383",
    alerts=("LookupsSlow",),
    tables=(Table(
        label="server",
        needs=((Happened(("lookups_slow",)),),),
        supports=(Shown(answers),
                  Check("net_drops_per_second", ">=", 0.3, "mean", 3.0, but=(("reason", "NO_SOCKET"),)),
                  Check("network_carrier_changes_per_second", ">=", 0.02, "mean")),
    ),),
    headlines=("Name lookups at {entity} take long",),
    summary=(
        "{claim} {blame:ref}.",
        "Hardly any answer comes: {answers:told} {answers:ref}.",
        "Whatever needs a name waits that long before it begins, and looks healthy else.",
    ),
    tell_apart="time getent ahosts NAME and dig @SERVER from this host: the time the server itself takes; ss -uan "
    "dport = 53: sockets that wait",
    specific=3,
    blame=slow_server,
    culprit_needed=False,
)
