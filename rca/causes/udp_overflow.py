"""Datagrams are lost at the socket of a slow receiver."""

from rca.exhausted import slow_receiver
from rca.spec import CauseSpec, Check, Happened, Table

CAUSE = CauseSpec(
    id="udp_overflow",
    title="overflow of a UDP socket",
    mechanism="A program reads its datagrams slower than they come; its buffer is full and the kernel drops the rest.",
    source="udp(7): SO_RCVBUF; kernel docs networking/snmp_counter (RcvbufErrors)",
    alerts=("UdpOverflow",),
    tables=(Table(
        needs=((Check("udp_receive_buffer_errors_per_second", ">=", 5.0, "mean", 3.0),),),
        supports=(Happened(("udp_socket_drops",)),
                  Check("net_drops_per_second", ">=", 5.0, "mean", 3.0),
                  Check("udp_datagrams_received_per_second", ">=", 100.0, "mean", 2.0)),
    ),),
    headlines=("{who} reads its UDP datagrams too slowly", "A program reads its UDP datagrams too slowly"),
    summary=(
        "Datagrams are dropped because a socket buffer is full: {udp_receive_buffer_errors_per_second} "
        "{udp_receive_buffer_errors_per_second:seen}.",
        "Meanwhile others are delivered: {udp_datagrams_received_per_second} {udp_datagrams_received_per_second:ref}.",
        "{claim} {blame:ref}.",
        "Whose socket it is could not be seen of {unnamed}; ss -uamp shows it (the d of skmem).",
    ),
    tell_apart="ss -uamp: the socket whose Recv-Q is full and whose drop count (d) grows",
    explains=("packet_loss",),
    specific=2,
    blame=slow_receiver,
    culprit_needed=False,
)
