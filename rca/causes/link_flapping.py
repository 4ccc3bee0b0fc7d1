"""A network link comes and goes."""

from rca.network_culprits import flapping_link
from rca.spec import CauseSpec, Check, Happened, Table

CAUSE = CauseSpec(
    id="link_flapping",
    title="network link that comes and goes",
    mechanism="A network link loses its carrier and gets it back again and again: a cable, a transceiver, the port "
    "opposite, or somebody who switches one of its ends.",
    source="kernel docs ABI/testing/sysfs-class-net (carrier_changes); IEEE 802.3 clause 28 (auto-negotiation)",
    alerts=("LinkFlapping",),
    tables=(Table(
        label="device",
        needs=((Happened(("link_flapping",)),),),
        supports=(
            Check("network_carrier_changes_per_second", ">=", 0.02, "mean"),
            Check("net_retransmits_per_second", ">=", 0.5, "mean", 3.0),
            Check("network_transmit_drops_per_second", ">=", 0.1, "peak", 3.0),
            Check("network_transmit_carrier_errors_per_second", ">=", 0.1, "peak", 3.0),
            Check("network_symbol_errors_per_second", ">=", 0.1, "peak"),
            Check("network_crc_errors_per_second", ">=", 0.1, "peak"),
            Check("net_connect_failures_per_second", ">=", 0.2, "mean", 3.0),
        ),
    ),),
    headlines=("Link {entity} comes and goes",),
    summary=(
        "{claim} {blame:ref}.",
        "TCP has to send segments again meanwhile: {net_retransmits_per_second} {net_retransmits_per_second:seen}.",
        "Connections never stand: {net_connect_failures_per_second} {net_connect_failures_per_second:seen}.",
        "The card counts errors on the wire: {network_symbol_errors_per_second} "
        "{network_symbol_errors_per_second:ref}.",
        "Each time TCP waits for its time-out after the link is back, so connections stand still for longer than it.",
    ),
    tell_apart="ip monitor link shows each change; NO-CARRIER is a cable, switch port or peer, state DOWN without it "
    "is somebody here",
    explains=("packet_loss", "connect_failures", "connection_stalled", "link_down", "link_degraded"),
    hard=True,
    specific=3,
    blame=flapping_link,
    culprit_needed=False,
)
