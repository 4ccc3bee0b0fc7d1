"""A network link lost its carrier."""

from rca.culprits import device_itself
from rca.spec import CauseSpec, Check, Happened, Table

CAUSE = CauseSpec(
    id="link_down",
    title="network link down",
    mechanism="A network interface lost its carrier or was switched off, so nothing goes in or out there.",
    source="netlink RTM_NEWLINK (operstate), /sys/class/net/*/carrier",
    alerts=("LinkDown",),
    tables=(Table(
        label="device",
        needs=((Happened(("link_down",)), Check("network_link_up", "<=", 0.0, "last", 0.5)),),
        supports=(Check("network_link_up", "<=", 0.0, "last", 0.5),
                  Check("network_carrier_changes_per_second", ">=", 1e-6, "peak")),
    ),),
    headlines=("Link {entity} is down",),
    summary=("The link {entity} went down {link_down:ref}.", "The kernel shows it as down {network_link_up:ref}.",
             "Whatever needs it has been cut off since then."),
    tell_apart="ip link show: NO-CARRIER is a cable, switch port or peer; state DOWN without it is somebody here",
    explains=("packet_loss", "connect_failures", "connection_stalled"),
    hard=True,
    specific=3,
    blame=device_itself,
    culprit_needed=False,
)
