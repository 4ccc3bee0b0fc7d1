"""What a finding rests on."""

from dataclasses import dataclass
from typing import Literal

EvidenceKind = Literal["series", "event", "fact", "missing"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """One measured statement, or the statement that something could not be measured.

    id: E1, E2 ... within one report.
    claim: a sentence with its number and unit, written by code.
    entity: which thing, in the notation of Series.entity.
    series_key: the series in Prometheus notation, "" for events and facts.
    window_ns: (start, end) of the measurement.
    value, baseline: in `unit`; NaN where there is none. baseline = median of the calm time before.
    score: in alarm thresholds, NaN where no detector speaks.
    onset_ns: when it left its usual range; 0 where unknown.
    coverage: share of the expected samples that were there, 0..1.
    source: how it was obtained, such as "/proc/stat" or "eBPF sched, histogram".
    """

    id: str
    kind: EvidenceKind
    claim: str
    entity: str = "host"
    series_key: str = ""
    window_ns: tuple[int, int] = (0, 0)
    value: float = float("nan")
    unit: str = ""
    baseline: float = float("nan")
    score: float = float("nan")
    onset_ns: int = 0
    coverage: float = 1.0
    source: str = ""
