"""A link runs, but slower than it did."""

from rca.culprits import device_itself
from rca.spec import CauseSpec, Check, Happened, Table

CAUSE = CauseSpec(
    id="link_degraded",
    title="link slower than before",
    mechanism="A link came up slower than it was, or half duplex: a lane, a cable or the other side has failed.",
    source="IEEE 802.3 clause 28 (auto-negotiation); kernel docs ABI/testing/sysfs-class-net (speed, duplex)",
    alerts=("LinkDegraded",),
    tables=(Table(
        label="device",
        needs=((Happened(("link_degraded",)),),),
        supports=(
            Check("network_link_full_duplex", "<=", 0.0, "last"),
            Check("network_carrier_changes_per_second", ">=", 1e-6, "peak"),
            Check("network_symbol_errors_per_second", ">=", 0.1, "peak"),
            Check("network_crc_errors_per_second", ">=", 0.1, "peak"),
            Check("network_receive_errors_per_second", ">=", 0.1, "peak"),
            Check("rdma_symbol_errors_per_second", ">=", 0.1, "peak"),
            Check("rdma_link_recoveries_per_second", ">=", 1e-3, "peak"),
            Check("network_qdisc_backlog_bytes", ">=", 1e5, factor=3.0),
        ),
    ),),
    headlines=("Link {entity} runs slower than before",),
    summary=(
        "The link {entity} came up slower than it was, or half duplex {link_degraded:ref}.",
        "Its carrier came and went {network_carrier_changes_per_second:ref}.",
        "It counts errors on the wire: {network_symbol_errors_per_second} {network_symbol_errors_per_second:ref}.",
        "Packets pile up before it: {network_qdisc_backlog_bytes} {network_qdisc_backlog_bytes:ref}.",
        "Whatever needs its whole speed is held back since then.",
    ),
    tell_apart="ethtool DEVICE shows speed, duplex, and what both sides advertise",
    explains=("packet_loss",),
    hard=True,
    specific=3,
    blame=device_itself,
    culprit_needed=False,
)
