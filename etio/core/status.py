"""How the daemon itself is doing, for `etio status`, /readyz, /metrics and the page."""

from dataclasses import dataclass
from typing import Literal

CollectorState = Literal["on", "nodata", "failed", "shed", "off"]
NAN = float("nan")


@dataclass(frozen=True, slots=True)
class CollectorHealth:
    """One collector. seconds: duration of its last reading; cpu_seconds_total since start; reason: why it is not on."""

    name: str
    state: CollectorState
    reason: str = ""
    remedy: str = ""
    series: int = 0
    seconds: float = NAN
    seconds_total: float = 0.0
    readings: int = 0
    failures: int = 0
    last_ns: int = 0


@dataclass(frozen=True, slots=True)
class ProgramCost:
    """One eBPF program as the kernel accounts for it (kernel.bpf_stats_enabled); NaN where accounting is off."""

    name: str
    attach: str
    run_count: float = NAN
    run_seconds: float = NAN


@dataclass(frozen=True, slots=True)
class Status:
    """Everything about the daemon at one moment.

    tier: "T1" with eBPF, "T2" without; tier_reason says why not T1 and what would help.
    ready: False while blind (no frame within three ticks, or nothing but failed collectors); reasons: why.
    warming: True while detectors have not seen enough; warm_ratio: share of series with a baseline, 0..1.
    cpu_percent: of one core, all processes; kernel_cpu_percent: the same of eBPF programs, on all cores together.
    pss_mb: proportional set size of all processes, 10^6 bytes.
    """

    version: str
    host: str
    started_ns: int
    now_ns: int
    tier: str
    tier_reason: str
    ready: bool
    reasons: tuple[str, ...]
    warming: bool
    warm_ratio: float
    series: int
    series_refused: int
    frames: int
    dropped_frames: int
    dropped_rows: int
    last_frame_ns: int
    alerts_firing: int
    collectors: tuple[CollectorHealth, ...]
    model: str
    cpu_percent: float = NAN
    kernel_cpu_percent: float = NAN
    pss_mb: float = NAN
    webhooks_waiting: int = 0
    programs: tuple[ProgramCost, ...] = ()
    listening: str = ""
