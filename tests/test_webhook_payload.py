"""Outgoing bodies: the shape, the words, and what changes over an alert's life."""

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from api.payload import ingest, payload
from etio.core.event import Notify
from etio.core.series import labels
from tests.sample_report import HOSTILE, NS, make_alert, make_incident, make_report

NOW = 1_795_248_000 * NS
URL = "https://gpu-17.example:9842/"


def body(notify):
    return json.loads(json.dumps(payload(notify, "gpu-17", URL), allow_nan=False))


def test_a_first_firing():
    incident = make_incident(NOW, report="none")
    found = body(Notify(incident, incident.alerts))
    assert found["status"] == "firing"
    assert found["notification_reason"] == "first notification"
    assert found["groupKey"] == '{}:{incident="2026-11-21-0007"}'
    (alert,) = found["alerts"]
    assert alert["labels"] == found["commonLabels"] == {
        "alertname": "CgroupCpuThrottled", "severity": "critical", "model": "running", "instance": "gpu-17",
        "incident": "2026-11-21-0007", "cgroup": "/system.slice/billing-api.service"}
    assert (alert["startsAt"], alert["endsAt"]) == ("2026-11-21T07:55:00Z", "0001-01-01T00:00:00Z")
    assert alert["generatorURL"] == "https://gpu-17.example:9842/#/incident/2026-11-21-0007"
    assert set(alert["annotations"]) == {"summary", "description"}
    assert "now 0.91 ratio" in alert["annotations"]["description"]


def test_the_report_follows():
    incident = make_incident(NOW)
    found = body(Notify(incident, (), make_report(NOW)))
    notes = found["alerts"][0]["annotations"]
    assert found["notification_reason"] == "report ready"
    assert notes["rca_summary"].startswith("billing-api.service is throttled by its own CPU quota. ")
    assert notes["rca_verdict"] == "CONFIRMED"
    assert notes["rca_cause"] == "cgroup_cpu_throttling"
    assert notes["rca_culprit"] == "unit billing-api.service (pid 4711)"
    assert notes["rca_report_url"] == "https://gpu-17.example:9842/#/incident/2026-11-21-0007"


def test_all_resolved():
    incident = make_incident(NOW, "resolved")
    found = body(Notify(incident, incident.alerts))
    assert (found["status"], found["notification_reason"]) == ("resolved", "all alerts resolved")
    assert found["alerts"][0]["endsAt"] == "2026-11-21T08:00:00Z"


def test_one_of_two_resolved_and_one_more_fires():
    first, second = make_alert(NOW), make_alert(NOW, name="RunQueueLong")
    resolved = replace(second, state="resolved", resolved_ns=NOW)
    both = replace(make_incident(NOW), alerts=(first, second))
    found = body(Notify(both, (second,)))
    assert (found["status"], found["notification_reason"], len(found["alerts"])) == ("firing", "new alerts added", 2)
    assert "alertname" not in found["commonLabels"]
    found = body(Notify(replace(both, alerts=(first, resolved)), (resolved,)))
    assert (found["status"], found["notification_reason"]) == ("firing", "some alerts resolved")
    assert [a["status"] for a in found["alerts"]] == ["firing", "resolved"]


def test_a_resolved_alert_is_not_told_twice_and_a_pending_one_never():
    gone = replace(make_alert(NOW, name="RunQueueLong"), state="resolved", resolved_ns=NOW - NS)
    pending = replace(make_alert(NOW, name="CpuSaturated"), state="pending", firing_ns=0)
    incident = replace(make_incident(NOW), alerts=(gone, pending, make_alert(NOW)))
    found = body(Notify(incident, (incident.alerts[2],)))
    assert [a["labels"]["alertname"] for a in found["alerts"]] == ["CgroupCpuThrottled"]


@given(st.text(max_size=50), st.floats())
def test_any_name_and_value_become_strings(text, value):
    alert = replace(make_alert(NOW), labels=labels(name=text), summary=text + HOSTILE, value=value)
    incident = replace(make_incident(NOW), alerts=(alert,))
    found = body(Notify(incident, (alert,), make_report(NOW, text)))
    (one,) = found["alerts"]
    assert all(isinstance(v, str) for v in (*one["labels"].values(), *one["annotations"].values()))
    assert one["labels"]["name"] == text


def test_for_an_alertmanager_a_firing_alert_ends_by_itself_and_keeps_its_identity():
    alert = make_alert(NOW)
    (firing,) = ingest([alert], "gpu-17", URL, NOW + 240 * NS)
    (resolved,) = ingest([replace(alert, state="resolved", resolved_ns=NOW + NS)], "gpu-17", URL, NOW + 999 * NS)
    assert firing["endsAt"] == "2026-11-21T08:04:00Z"
    assert resolved["endsAt"] == "2026-11-21T08:00:01Z"
    assert firing["labels"] == resolved["labels"]
    assert "incident" not in firing["labels"]
    assert firing["annotations"]["incident"] == "2026-11-21-0007"
