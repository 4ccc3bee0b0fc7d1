"""Which few series speak for a subsystem, and the distance of each from its own past as one feature vector."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from detectors.columns import Ints
from etio.core.frame import Floats
from etio.core.series import Series

FEATURES: Mapping[str, tuple[str, ...]] = {
    "cpu": (
        "cpu_busy_ratio", "cpu_runnable_per_core", "cpu_context_switches_per_second", "cpu_interrupts_per_second",
        "cpu_forks_per_second", "cpu_run_delay_seconds_per_second", "pressure_cpu_some_ratio",
    ),
    "memory": (
        "memory_available_ratio", "memory_dirty_bytes", "vm_page_faults_per_second", "vm_major_faults_per_second",
        "vm_kswapd_scan_pages_per_second", "vm_direct_scan_pages_per_second", "pressure_memory_some_ratio",
    ),
    "disk": (
        "disk_busy_ratio", "disk_queue_length", "disk_read_latency_seconds", "disk_write_latency_seconds",
        "disk_read_bytes_per_second", "disk_write_bytes_per_second", "pressure_io_some_ratio",
    ),
    "network": (
        "network_receive_bytes_per_second", "network_transmit_bytes_per_second", "tcp_retransmits_per_second",
        "tcp_active_opens_per_second", "tcp_resets_sent_per_second", "tcp_established",
    ),
    "gpu": (
        "gpu_utilization_ratio", "gpu_memory_used_ratio", "gpu_power_watts", "gpu_temperature_celsius",
        "gpu_sm_clock_hertz",
    ),
}
"""Subsystem to the names of its features; a name with several series (disks, links, GPUs) gives the one farthest
from its own past. Pressure is felt where it comes from."""


@dataclass(slots=True)
class Gather:
    """Positions in the frame of the series behind the features.

    chosen: intp[m], ordered by feature. series: the chosen ones. features: (subsystem, name) in order of sight.
    """

    series: tuple[Series, ...] = ()
    features: list[tuple[str, str]] = field(default_factory=list)
    chosen: Ints = field(default_factory=lambda: np.empty(0, dtype=np.intp))
    _owner: list[int] = field(default_factory=list)
    _order: Ints = field(default_factory=lambda: np.empty(0, dtype=np.intp))
    _starts: Ints = field(default_factory=lambda: np.empty(0, dtype=np.intp))
    _seen: int = 0

    def grow(self, catalogue: tuple[Series, ...]) -> bool:
        """Takes new series of the catalogue in; whether any of them was chosen."""
        fresh = [(i, s) for i, s in enumerate(catalogue[self._seen:], self._seen) if s.name in _OWNERS]
        self._seen = max(self._seen, len(catalogue))
        for _, one in fresh:
            feature = (_OWNERS[one.name], one.name)
            if feature not in self.features:
                self.features.append(feature)
            self._owner.append(self.features.index(feature))
        if fresh:
            self.series += tuple(s for _, s in fresh)
            self.chosen = np.concatenate([self.chosen, np.array([i for i, _ in fresh], dtype=np.intp)])
            owner = np.array(self._owner)
            self._order = np.argsort(owner, kind="stable")
            self._starts = np.searchsorted(owner[self._order], np.arange(len(self.features)))
        return bool(fresh)

    def farthest(self, z: Floats) -> Floats:
        """For each feature the signed z that is farthest from 0, float64[len(features)]; z: float64[m]."""
        ordered = z[self._order]
        high = np.fmax.reduceat(ordered, self._starts)
        low = np.fmin.reduceat(ordered, self._starts)
        return np.asarray(np.where(high >= -low, high, low))


_OWNERS = {name: subsystem for subsystem, names in FEATURES.items() for name in names}
