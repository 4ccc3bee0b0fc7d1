"""Which series may page when they are unusual: those whose rise hurts somebody; and whose lasting shift is kept."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Symptom:
    """A series whose anomaly may page: only upwards, only above `floor` (its unit), as alert `alert`.

    The floor is where the effect starts to matter to anybody; below it even the strangest value is only evidence.
    patient: not while most of the CPU time goes to background work (nice): it is told of by its own wait, and gives way
    to whoever wants a CPU, so nobody else is known to wait.
    """

    series: str
    floor: float
    alert: str = "SeriesAnomaly"
    patient: bool = False


SYMPTOMS: Mapping[str, Symptom] = {
    s.series: s
    for s in (
        Symptom("pressure_cpu_some_ratio", 0.60, patient=True),
        Symptom("pressure_memory_some_ratio", 0.05, "MemoryPressure"),
        Symptom("pressure_io_some_ratio", 0.80),
        Symptom("sched_run_delay_p99_seconds", 0.050, "RunQueueLong", patient=True),
        Symptom("disk_read_latency_seconds", 0.050, "DiskSlow"),
        Symptom("disk_write_latency_seconds", 0.500, "DiskSlow"),
        Symptom("disk_flush_latency_seconds", 0.100, "DiskSlow"),
        Symptom("reclaim_direct_seconds_per_second", 0.05, "MemoryPressure"),
        Symptom("vm_swap_in_pages_per_second", 200, "SwapThrashing"),
        Symptom("tcp_listen_drops_per_second", 1.0, "ListenOverflow"),
        Symptom("net_retransmits_per_second", 10.0, "PacketLoss"),
        Symptom("net_connections_reset_per_second", 10.0, "ConnectionsReset"),
        Symptom("net_turned_away_per_second", 20.0, "ConnectionsTurnedAway"),
        Symptom("net_connect_failures_per_second", 5.0, "ConnectFailures"),
        Symptom("network_paused_seconds_per_second", 0.2),
        Symptom("network_no_receive_buffer_per_second", 20.0),
        Symptom("network_allowance_exceeded_per_second", 10.0),
        Symptom("rdma_out_of_sequence_per_second", 100.0, "RdmaRetransmits"),
        Symptom("network_receive_errors_per_second", 1.0),
        Symptom("network_transmit_errors_per_second", 1.0),
        Symptom("network_receive_drops_per_second", 20.0),
        Symptom("network_backlog_drops_per_second", 5.0),
        Symptom("udp_receive_buffer_errors_per_second", 10.0),
        Symptom("numa_other_node_per_second", 20_000.0, "NumaRemoteMemory"),
        Symptom("gpu_temperature_celsius", 85.0),
        Symptom("gpu_pcie_replays_per_second", 1.0),
        Symptom("cpu_blocked_tasks", 8.0),
    )
}


BACKGROUND = ("cpu_mode_ratio", ("mode", "nice"), 0.5)
"""Name and label of the series of background work, and the share of CPU time from which on it is most of it; the hard
rules of the CPU use the same share (`cpu_nice_ratio`)."""

SHIFTS: frozenset[str] = frozenset(SYMPTOMS) | {
    "cpu_busy_ratio", "memory_available_ratio", "disk_busy_ratio", "network_receive_bytes_per_second",
    "network_transmit_bytes_per_second", "tcp_established", "gpu_utilization_ratio", "gpu_sm_clock_hertz",
    "gpu_power_watts", "process_forks_per_second",
}
"""Series whose lasting shift is kept as an event of the host, for what changed before an incident."""
