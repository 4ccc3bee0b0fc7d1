"""What outgoing alerts look like: the Alertmanager webhook of version 4, and what its /api/v2/alerts takes in. Pure.

Source: Prometheus Alertmanager, documentation of the webhook receiver, and its OpenAPI description of /api/v2/alerts.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from api.times import NS, ZERO_TIME, rfc3339
from etio.core.alert import Alert
from etio.core.event import Notify
from etio.core.policy import model_of
from etio.core.report import Culprit, Report
from etio.core.words import clean

RECEIVER: Final = "etio"
NOTIFICATION_TEXT: Final = 2000
"""Longest annotation, in characters: receivers show it on a phone."""


def payload(notify: Notify, host: str, external_url: str) -> dict[str, Any]:
    """Body of one webhook call, version 4: the alerts of the incident that fire, and those that this call is about."""
    shown = [a for a in _shown(notify) if a.state != "pending"]
    alerts = [_alert(a, notify, host, external_url) for a in shown]
    labels, notes = [a["labels"] for a in alerts], [a["annotations"] for a in alerts]
    return {
        "version": "4",
        "groupKey": f'{{}}:{{incident="{notify.incident.id}"}}',
        "truncatedAlerts": 0,
        "status": "firing" if any(a.state == "firing" for a in shown) else "resolved",
        "receiver": RECEIVER,
        "groupLabels": {"incident": notify.incident.id},
        "commonLabels": _common(labels),
        "commonAnnotations": _common(notes),
        "externalURL": external_url.rstrip("/"),
        "notification_reason": _reason(notify),
        "alerts": alerts,
    }


def ingest(
    alerts: Iterable[Alert], host: str, external_url: str, ends_ns: int, report: Report | None = None
) -> list[dict[str, Any]]:
    """Body of POST /api/v2/alerts. ends_ns: when a firing alert ends by itself unless it is sent again."""
    return [
        {
            "labels": _labels(a, host),
            "annotations": {**_annotations(a, report, external_url), "incident": a.incident_id},
            "startsAt": rfc3339(_started(a)),
            "endsAt": rfc3339(a.resolved_ns if a.state == "resolved" else ends_ns),
            "generatorURL": _link(external_url, a.incident_id),
        }
        for a in alerts if a.state != "pending"
    ]


def _shown(notify: Notify) -> Sequence[Alert]:
    """Alerts of the incident in their latest state: the firing ones, and the changed ones; all when none fires."""
    changed = {a.fingerprint: a for a in notify.alerts}
    latest = {a.fingerprint: a for a in notify.incident.alerts} | changed
    firing = [a for f, a in latest.items() if a.state == "firing" or f in changed]
    return firing or list(latest.values())


def _alert(alert: Alert, notify: Notify, host: str, external_url: str) -> dict[str, Any]:
    return {
        "status": alert.state,
        "labels": {**_labels(alert, host), "incident": notify.incident.id},
        "annotations": _annotations(alert, notify.report, external_url, notify.repeats),
        "startsAt": rfc3339(_started(alert)),
        "endsAt": rfc3339(alert.resolved_ns) if alert.state == "resolved" else ZERO_TIME,
        "generatorURL": _link(external_url, notify.incident.id),
        "fingerprint": alert.fingerprint,
    }


def _labels(alert: Alert, host: str) -> dict[str, str]:
    return {**dict(alert.labels), "alertname": alert.name, "severity": alert.severity, "model": model_of(alert.name),
            "instance": host}


def _annotations(alert: Alert, report: Report | None, external_url: str, repeats: str = "") -> dict[str, str]:
    notes = {"summary": alert.summary, "description": _description(alert)}
    if repeats:
        notes["repeats"] = repeats
    if report is not None:
        notes |= {
            "rca_summary": f"{report.title}. {report.summary}"[:NOTIFICATION_TEXT],
            "rca_verdict": report.verdict,
            "rca_cause": report.findings[0].cause if report.findings else "",
            "rca_culprit": _culprit(report.culprit),
            "rca_report_url": _link(external_url, report.incident_id),
        }
    return notes


def _description(alert: Alert) -> str:
    value = "" if alert.value != alert.value else f", now {alert.value:.4g} {alert.unit}".rstrip()
    return f"{alert.name} on {clean(alert.entity, 200)}{value}, seen by {alert.detector}"


def _culprit(culprit: Culprit | None) -> str:
    if culprit is None:
        return ""
    return f"{culprit.kind} {culprit.name}" + (f" (pid {culprit.pid})" if culprit.pid else "")


def _started(alert: Alert) -> int:
    return alert.pending_ns or alert.firing_ns or NS


def _link(external_url: str, incident_id: str) -> str:
    return f"{external_url.rstrip('/')}/#/incident/{incident_id}"


def _common(maps: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Pairs that all of them share."""
    return {k: v for k, v in maps[0].items() if all(m.get(k) == v for m in maps)} if maps else {}


def _reason(notify: Notify) -> str:
    """Alertmanager's words, and one of our own for the follow-up that it does not know."""
    if notify.report is not None:
        return "report ready"
    if all(a.state == "resolved" for a in notify.alerts):
        firing = any(a.state == "firing" for a in _shown(notify))
        return "some alerts resolved" if firing else "all alerts resolved"
    changed = {a.fingerprint for a in notify.alerts}
    known = [a for a in notify.incident.alerts if a.fingerprint not in changed and a.firing_ns]
    return "new alerts added" if known else "first notification"
