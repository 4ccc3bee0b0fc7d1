"""The report: what is wrong, why, who caused it, which knob to turn, and how sure that is."""

from dataclasses import dataclass, field
from typing import Literal

from etio.core.alert import Severity
from etio.core.evidence import Evidence

Verdict = Literal["CONFIRMED", "LIKELY", "INCONCLUSIVE"]
CulpritKind = Literal["process", "cgroup", "unit", "device", "filesystem", "peer", "kernel"]
Risk = Literal["none", "low", "medium", "high"]


@dataclass(frozen=True, slots=True)
class Culprit:
    """Who did it.

    name: what a person would call it: a command name, a cgroup path, a unit, a device, an address.
    pid: of the process, 0 where it is none.
    cgroup, unit: where it runs, "" where unknown.
    claim: why this one, with its number; evidence: ids that carry it.
    """

    kind: CulpritKind
    name: str
    pid: int = 0
    cgroup: str = ""
    unit: str = ""
    claim: str = ""
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """A cause, and what speaks for and against it. `rank_score` only orders findings; it is no probability."""

    cause: str
    title: str
    verdict: Verdict
    explanation: str
    supports: tuple[str, ...]
    refutes: tuple[str, ...] = ()
    entity: str = "host"
    culprit: Culprit | None = None
    rank_score: float = 0.0


@dataclass(frozen=True, slots=True)
class RuledOut:
    """A cause that was looked at and does not fit, with the reason in words and evidence."""

    cause: str
    title: str
    reason: str
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A card of tuning knowledge applied to this host. etio prints it; only a person carries it out.

    current: value read from this host at `read_ns`; "" where there is nothing to read (then `current_note` says why).
    """

    card: str
    title: str
    knob: str
    current: str
    proposed: str
    why: str
    effect: str
    risk: Risk
    risk_note: str
    apply: str
    rollback: str
    verify: str
    source: str
    read_ns: int = 0
    current_note: str = ""
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Moment:
    """One line of the timeline, or of the list of what changed before."""

    t_ns: int
    text: str
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DataQuality:
    """What the report could not see. tier: "T1" (eBPF) or "T2" (none). coverage: 0..1 over the evidence windows."""

    tier: str
    coverage: float
    missing: tuple[str, ...] = ()
    dropped_series: int = 0
    warming: bool = False


@dataclass(frozen=True, slots=True)
class ModelNote:
    """Which part a language model took.

    mode: "deterministic" (none took part; `fallback_reason` says why) or "llm".
    removed: what the verifier dropped of the model's answer, with the reason.
    """

    mode: Literal["deterministic", "llm"]
    name: str = ""
    endpoint: str = ""
    seconds: float = 0.0
    prompt_tokens: int = 0
    answer_tokens: int = 0
    fallback_reason: str = ""
    removed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Overhead:
    """etio's own cost: CPU in percent of one core, memory in MB (10^6 bytes, proportional set size); NaN = unknown."""

    cpu_percent: float = float("nan")
    pss_mb: float = float("nan")


@dataclass(frozen=True, slots=True)
class Report:
    """An explained incident. Findings are ranked, best first; none means that no cause fits."""

    id: str
    incident_id: str
    host: str
    created_ns: int
    since_ns: int
    title: str
    verdict: Verdict
    severity: Severity
    summary: str
    findings: tuple[Finding, ...]
    ruled_out: tuple[RuledOut, ...]
    evidence: tuple[Evidence, ...]
    suggestions: tuple[Suggestion, ...]
    timeline: tuple[Moment, ...]
    changes: tuple[Moment, ...]
    follows: tuple[str, ...]
    culprit: Culprit | None
    data_quality: DataQuality
    model: ModelNote
    overhead: Overhead = field(default_factory=Overhead)
    narrative: str = ""
    alerts: tuple[str, ...] = ()
    seen_by: tuple[str, ...] = ()
    """Which of the three models raised which alerts, such as "running model: CpuSaturated"."""
    next_steps: tuple[str, ...] = ()
