"""RDMA packets are lost or held back by congestion, not by errors on the wire."""

from rca.culprits import device_itself
from rca.spec import CauseSpec, Check, Table

CAUSE = CauseSpec(
    id="rdma_congestion",
    title="congested RDMA network",
    mechanism="Switches or hosts on the way are full: RDMA packets are dropped and sent again, senders slowed down.",
    source="IEEE 802.1Qbb (PFC), 802.1Qau, RoCEv2 annex A17 (ECN, CNP); mlx5 counters documentation",
    alerts=("RdmaRetransmits",),
    tables=(Table(
        label="device",
        needs=((
            Check("rdma_sequence_errors_per_second", ">=", 5.0, "mean", 3.0),
            Check("rdma_out_of_sequence_per_second", ">=", 20.0, "mean", 3.0),
            Check("rdma_ack_timeouts_per_second", ">=", 0.5, "mean", 3.0),
            Check("rdma_adaptive_retransmits_per_second", ">=", 5.0, "mean", 3.0),
        ),),
        supports=(
            Check("rdma_cnp_handled_per_second", ">=", 10.0, "mean", 3.0),
            Check("rdma_cnp_sent_per_second", ">=", 10.0, "mean", 3.0),
            Check("rdma_ecn_marked_per_second", ">=", 10.0, "mean", 3.0),
            Check("rdma_transmit_wait_ticks_per_second", ">=", 1e6, "mean", 3.0),
            Check("rdma_out_of_buffer_per_second", ">=", 1.0, "mean", 3.0),
            Check("rdma_transmit_discards_per_second", ">=", 1.0, "mean", 3.0),
        ),
        refutes=(
            Check("rdma_symbol_errors_per_second", ">=", 0.5, "mean", 3.0,
                  why="the wire itself damages packets: that is no congestion"),
            Check("rdma_link_recoveries_per_second", ">=", 1e-3, "mean", 3.0,
                  why="the link itself fails: that is no congestion"),
            Check("rdma_icrc_errors_per_second", ">=", 0.5, "mean", 3.0, why="packets arrive damaged"),
        ),
        doubts=(Check("rdma_link_up", "<=", 0.0, "last"),),
    ),),
    headlines=("RDMA packets of {entity} are lost to congestion",),
    summary=(
        "The other side misses packets of {entity}: {rdma_sequence_errors_per_second} "
        "{rdma_sequence_errors_per_second:seen}.",
        "Packets arrive out of order: {rdma_out_of_sequence_per_second} {rdma_out_of_sequence_per_second:seen}.",
        "Acknowledgements do not come in time {rdma_ack_timeouts_per_second:ref}.",
        "Notifications of congestion slow this sender down: {rdma_cnp_handled_per_second} "
        "{rdma_cnp_handled_per_second:ref}.",
        "Packets arrive with the congestion mark of a switch: {rdma_ecn_marked_per_second} "
        "{rdma_ecn_marked_per_second:ref}.",
        "The wire itself counts no errors.",
    ),
    tell_apart="hw_counters of the port: out_of_sequence and packet_seq_err with np_cnp_sent and rp_cnp_handled",
    specific=2,
    blame=device_itself,
    culprit_needed=False,
)
