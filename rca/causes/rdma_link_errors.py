"""An RDMA port loses its link, or has errors on the wire."""

from rca.culprits import device_itself
from rca.spec import CauseSpec, Check, Happened, Table

CAUSE = CauseSpec(
    id="rdma_link_errors",
    title="errors on an RDMA link",
    mechanism="The link of an RDMA port fails or damages what passes: a cable, a transceiver or a port is going bad.",
    source="InfiniBand Architecture 16.1.3.5 (PortCounters); kernel docs ABI/stable/sysfs-class-infiniband",
    alerts=("RdmaLinkDown", "RdmaErrors"),
    tables=(Table(
        label="device",
        needs=((
            Happened(("rdma_link_down",)),
            Check("rdma_symbol_errors_per_second", ">=", 0.5, "mean", 3.0),
            Check("rdma_link_recoveries_per_second", ">=", 1e-3, "mean", 3.0),
            Check("rdma_link_downs_per_second", ">=", 1e-3, "mean", 3.0),
            Check("rdma_link_integrity_errors_per_second", ">=", 1e-3, "mean", 3.0),
            Check("rdma_receive_errors_per_second", ">=", 0.5, "mean", 3.0),
            Check("rdma_icrc_errors_per_second", ">=", 0.5, "mean", 3.0),
        ),),
        supports=(
            Check("rdma_link_up", "<=", 0.0, "last"),
            Check("rdma_sequence_errors_per_second", ">=", 1.0, "mean", 3.0),
            Check("rdma_ack_timeouts_per_second", ">=", 0.2, "mean", 3.0),
            Check("rdma_transmit_discards_per_second", ">=", 0.2, "mean", 3.0),
        ),
    ),),
    headlines=("The RDMA link of {entity} is failing",),
    summary=(
        "The port of {entity} lost its link {rdma_link_down:ref}.",
        "It counts errors on the wire: {rdma_symbol_errors_per_second} {rdma_symbol_errors_per_second:seen}.",
        "The link had to recover from errors {rdma_link_recoveries_per_second:ref}.",
        "Packets are sent again, which stalls every rank that waits for them {rdma_sequence_errors_per_second:ref}.",
    ),
    tell_apart="symbol_error, link_error_recovery and link_downed below /sys/class/infiniband/*/ports/*/counters",
    explains=("rdma_congestion", "link_degraded"),
    hard=True,
    specific=3,
    blame=device_itself,
    culprit_needed=False,
)
