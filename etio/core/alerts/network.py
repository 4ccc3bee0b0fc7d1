"""Links, TCP and UDP, RDMA: losses, overflows, exhausted tables."""

from etio.core.alerts.kind import AlertKind

KINDS = (
    AlertKind("PacketLoss", "warning", ("net_retransmits_per_second", "tcp_retransmit_ratio"), "TCP segments are lost",
              for_s=3, grace_s=3.5),
    AlertKind("ConnectFailures", "warning", ("net_connect_failures_per_second",), "outgoing connections get no answer",
              for_s=8, grace_s=5.5),
    AlertKind("ListenOverflow", "warning", ("tcp_listen_overflows_per_second",), "a listening socket drops connections",
              for_s=3, grace_s=2.5),
    AlertKind("UdpOverflow", "warning", ("udp_receive_buffer_errors_per_second",),
              "datagrams are lost because a receiver is too slow", for_s=4, grace_s=2.5),
    AlertKind("ConntrackFull", "critical", ("conntrack_used_ratio",), "the connection tracking table is full", for_s=3),
    AlertKind("ConntrackFillsSoon", "warning", ("conntrack_used_ratio",), "the connection tracking table fills up",
              for_s=5, clear_s=120, grace_s=10),
    AlertKind("PortsExhausted", "critical", ("tcp_local_ports_used_ratio",),
              "no local port is left for connections to {entity}", for_s=0, clear_s=30, events=("ports_exhausted",),
              cleared_by=("ports_released",), held=True),
    AlertKind("LinkDown", "critical", ("network_link_up",), "link {entity} went down", for_s=0, clear_s=30,
              model="asset", events=("link_down",), cleared_by=("link_up", "link_removed"), held=True),
    AlertKind("LinkDegraded", "warning", ("network_link_speed_bytes_per_second",),
              "link {entity} runs slower than before, or half duplex", for_s=0, clear_s=30, model="asset",
              events=("link_degraded",), cleared_by=("link_restored",), held=True),
    AlertKind("NicReset", "warning", (), "{entity} had to be reset", for_s=0, clear_s=60, model="asset",
              events=("nic_reset",)),
    AlertKind("RdmaRetransmits", "warning", ("rdma_sequence_errors_per_second", "rdma_ack_timeouts_per_second"),
              "{entity} has to send RDMA packets again", for_s=8, grace_s=6),
    AlertKind("RdmaLinkDown", "critical", ("rdma_link_up",), "RDMA port {entity} went down", for_s=0, clear_s=30,
              model="asset", events=("rdma_link_down",), cleared_by=("rdma_link_up",), held=True),
    AlertKind("RdmaErrors", "warning", ("rdma_symbol_errors_per_second",), "{entity} has errors on the wire", for_s=4,
              grace_s=6, clear_s=60, model="asset"),
)
