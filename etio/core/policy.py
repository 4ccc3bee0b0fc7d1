"""Which alerts exist, how long a condition must last before it pages, and which anomalies may page at all.

An alert begins either as a rule that physics decides (detectors/hard_rules.py), as a host event, or as an anomaly of a
*symptom* series: one whose rise hurts somebody (latency, stalls, losses). An anomaly of any other series is evidence,
never a page.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from etio.core.alert import MODELS, Alert, ModelClass, Severity
from etio.core.alerts import KINDS, AlertKind
from etio.core.symptoms import SHIFTS, SYMPTOMS, Symptom

__all__ = ["ALERTS", "EVENT_ALERTS", "EVENT_CLEARS", "EVENT_HELD", "SHIFTS", "SYMPTOMS", "VIRTUAL", "AlertKind",
           "EngineConfig", "Symptom", "by_model", "model_of", "severity_of"]

ALERTS: Mapping[str, AlertKind] = {kind.name: kind for kind in KINDS}

EVENT_ALERTS: Mapping[str, str] = {event: kind.name for kind in KINDS for event in kind.events}
"""Host events that are alerts by themselves."""

EVENT_CLEARS: Mapping[str, str] = {event: kind.name for kind in KINDS for event in kind.cleared_by}
"""Host events that end the alert of the same entity."""

EVENT_HELD: frozenset[str] = frozenset(event for kind in KINDS if kind.held for event in kind.events)
"""Events that describe a lasting state: their alert stays until cleared, not for a fixed time."""

VIRTUAL = ("veth", "virbr", "docker", "br-", "tap", "tun", "dummy", "loop", "zram", "ram", "cali", "flannel", "vnet")
"""Names of network and block devices that are made of software start like this."""


def model_of(alert: str) -> ModelClass:
    """Which model raises an alert of this name; "running" for one that is no longer known.

    >>> model_of("CpuSaturated"), model_of("GpuXid"), model_of("BehaviourNew")
    ('running', 'asset', 'behaviour')
    """
    kind = ALERTS.get(alert)
    return kind.model if kind is not None else "running"


def severity_of(alert: str, labels: Mapping[str, str]) -> Severity:
    """Severity of an event's alert, by what it speaks of: a device that is made of software is never critical.

    >>> severity_of("LinkDown", {"device": "eth0"}), severity_of("LinkDown", {"device": "veth3f"})
    ('critical', 'warning')
    """
    severity = ALERTS[alert].severity
    made = labels.get("device", "").startswith(VIRTUAL)
    return "warning" if made and severity == "critical" else severity


def by_model(alerts: Iterable[Alert]) -> dict[ModelClass, tuple[str, ...]]:
    """Names of the alerts that each of the three models raised, in order; models that raised none are left out."""
    names = {m: tuple(dict.fromkeys(a.name for a in alerts if model_of(a.name) == m)) for m in MODELS}
    return {model: found for model, found in names.items() if found}


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """How alerts become incidents and reports.

    group_s: an alert that begins within so many seconds of an open incident belongs to it.
    settle_s: how long the first report waits for the rest of the picture after the first alert fires.
    refresh_s: a report is made again when graver alerts joined, at most this often.
    mute: alert names that never fire. for_s: per-alert overrides of AlertKind.for_s, in seconds.
    """

    group_s: float = 30.0
    settle_s: float = 1.0
    refresh_s: float = 10.0
    mute: tuple[str, ...] = ()
    for_s: dict[str, float] = field(default_factory=dict)
    anomalies: bool = True

    def __post_init__(self) -> None:
        for name in (*self.mute, *self.for_s):
            if name not in ALERTS:
                raise ValueError(f"{name!r} is no alert; known: {', '.join(sorted(ALERTS))}")
