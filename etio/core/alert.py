"""Alerts and the incidents that group them."""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

from etio.core.series import Labels

Severity = Literal["info", "warning", "critical"]
AlertState = Literal["pending", "firing", "resolved"]
ReportState = Literal["none", "running", "ready", "failed"]
ModelClass = Literal["running", "behaviour", "asset"]
"""Who raises an alert: the running model (numbers), the behaviour model (which programs, units and ports are normal on
this host), or the assets themselves (hardware and log events)."""
MODELS: tuple[ModelClass, ...] = ("running", "behaviour", "asset")
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical")


def fingerprint(name: str, labels: Labels) -> str:
    """16 hex digits that stay the same for the same alert on the same thing, as Alertmanager wants them."""
    text = name + "".join(f"\0{k}\0{v}" for k, v in sorted(labels))
    return blake2b(text.encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Alert:
    """One thing that is wrong, at one moment of its life.

    name: CamelCase id of the alert, such as DiskSaturated.
    labels: which thing it speaks of.
    series_key: the series that carries it, in Prometheus notation; "" for an event.
    value, unit: of that series now (NaN where an event has none); score: in thresholds.
    pending_ns: when its condition began; firing_ns and resolved_ns: 0 until it happens.
    detector: who saw it.
    """

    fingerprint: str
    name: str
    severity: Severity
    state: AlertState
    labels: Labels
    summary: str
    series_key: str
    value: float
    unit: str
    score: float
    detector: str
    pending_ns: int
    firing_ns: int = 0
    resolved_ns: int = 0
    incident_id: str = ""

    @property
    def entity(self) -> str:
        """Which thing, such as ``device=sda``; "host" where it has no label."""
        return ",".join(f"{k}={v}" for k, v in self.labels) or "host"


@dataclass(frozen=True, slots=True)
class Incident:
    """Alerts that overlap in time, seen as one trouble.

    id: ``YYYY-MM-DD-NNNN`` of the UTC day it opened.
    alerts: every alert that ever belonged to it, latest state each.
    resolved_ns: 0 while any of them fires.
    """

    id: str
    opened_ns: int
    alerts: tuple[Alert, ...]
    resolved_ns: int = 0
    report: ReportState = "none"

    @property
    def severity(self) -> Severity:
        """The gravest of its alerts."""
        return max((a.severity for a in self.alerts), key=SEVERITIES.index)

    @property
    def onset_ns(self) -> int:
        """When the first of its conditions began; evidence may have been there long before and does not count."""
        graver = [a.pending_ns for a in self.alerts if a.severity != "info"]
        return min(graver or [a.pending_ns for a in self.alerts])
