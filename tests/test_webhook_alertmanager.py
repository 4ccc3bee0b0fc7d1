"""Against a real Alertmanager: it takes our alerts in, and its own webhook has the shape of ours."""

import re
import subprocess
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from api.config import Target, WebhookConfig
from api.payload import payload
from api.webhook import Sender
from etio.core.event import Notify
from tests.sample_report import NS, make_incident, make_report
from tests.test_webhook_sender import MemoryOutbox, free_port, read, receiver, wait_for

pytestmark = pytest.mark.needs_alertmanager
CONFIG = """
route: {{receiver: hook, group_by: [alertname], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}
receivers: [{{name: hook, webhook_configs: [{{url: "http://127.0.0.1:{port}/am", send_resolved: true}}]}}]
"""
RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")


@contextmanager
def alertmanager(folder: Path, hook_port: int):
    port = free_port()
    (folder / "am.yml").write_text(CONFIG.format(port=hook_port))
    process = subprocess.Popen(
        ["prometheus-alertmanager", f"--config.file={folder / 'am.yml'}", f"--storage.path={folder / 'am'}",
         f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    base = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: _up(base), 20)
        yield base
    finally:
        process.terminate()
        process.wait(10)


def _up(base):
    try:
        return httpx.get(base + "/-/ready", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def known(base):
    return httpx.get(base + "/api/v2/alerts", trust_env=False).json()


def story():
    now = time.time_ns() // NS * NS
    incident = make_incident(now)
    done = make_incident(now, "resolved")
    return Notify(incident, incident.alerts, make_report(now)), Notify(done, done.alerts)


def test_an_alert_fires_in_alertmanager_and_resolves_and_the_webhooks_agree(tmp_path):
    port, outbox, log = free_port(), MemoryOutbox(), tmp_path / "log"
    firing, resolved = story()
    with receiver(port, log), alertmanager(tmp_path, port) as base:
        sender = Sender(WebhookConfig((Target(base, "alertmanager"),), external_url="http://gpu-17:9842"), outbox)
        sender.start()
        sender.queue(firing, "gpu-17")
        wait_for(lambda: known(base))
        (found,) = known(base)
        assert found["labels"] == {"alertname": "CgroupCpuThrottled", "severity": "critical", "instance": "gpu-17",
                                   "model": "running",
                                   "cgroup": "/system.slice/billing-api.service"}
        assert found["annotations"]["rca_verdict"] == "CONFIRMED"
        assert found["status"]["state"] == "active"
        assert found["generatorURL"] == "http://gpu-17:9842/#/incident/2026-11-21-0007"
        wait_for(lambda: read(log))
        sender.queue(resolved, "gpu-17")
        wait_for(lambda: not known(base), 20)
        wait_for(lambda: len(read(log)) >= 2, 20)
        sender.stop()
    assert outbox.pending() == 0
    theirs = [line["body"] for line in read(log)]
    same_shape(theirs[0], payload(firing, "gpu-17", "http://gpu-17:9842"))
    same_shape(theirs[-1], payload(resolved, "gpu-17", "http://gpu-17:9842"))


def same_shape(theirs, ours):
    """Field by field: names, types and, where both speak of the same, values."""
    assert set(theirs) <= set(ours)
    assert set(ours) - set(theirs) <= {"notification_reason"}
    for name, value in theirs.items():
        assert type(ours[name]) is type(value), name
    assert (ours["version"], ours["status"], ours["truncatedAlerts"]) == (theirs["version"], theirs["status"], 0)
    (their_alert,), (our_alert,) = theirs["alerts"], ours["alerts"]
    assert set(their_alert) == set(our_alert)
    for name, value in their_alert.items():
        assert type(our_alert[name]) is type(value), name
    assert our_alert["status"] == their_alert["status"]
    assert {**their_alert["labels"], "incident": "2026-11-21-0007"} == our_alert["labels"]
    assert {**our_alert["annotations"], "incident": "2026-11-21-0007"} == their_alert["annotations"]
    assert our_alert["generatorURL"] == their_alert["generatorURL"]
    assert re.fullmatch(r"[0-9a-f]{16}", our_alert["fingerprint"])
    assert re.fullmatch(r"[0-9a-f]{16}", their_alert["fingerprint"])
    for name in ("startsAt", "endsAt"):
        assert RFC3339.fullmatch(our_alert[name])
        assert RFC3339.fullmatch(their_alert[name])
    assert our_alert["startsAt"] == their_alert["startsAt"]
    if ours["status"] == "firing":
        assert our_alert["endsAt"] == their_alert["endsAt"] == "0001-01-01T00:00:00Z"
    assert set(ours["groupLabels"].items()) <= set(ours["commonLabels"].items())


def test_firing_alerts_are_sent_again_after_alertmanager_forgot_them(tmp_path):
    port, outbox, log = free_port(), MemoryOutbox(), tmp_path / "log"
    alert = replace(story()[0].alerts[0], state="firing")
    sender = None
    try:
        with receiver(port, log), alertmanager(tmp_path, port) as base:
            config = WebhookConfig((Target(base, "alertmanager"),), resend_s=0.3)
            sender = Sender(config, outbox, firing=lambda: [alert], host="gpu-17")
            sender.start()
            wait_for(lambda: known(base))
            first = known(base)[0]["endsAt"]
            wait_for(lambda: known(base) and known(base)[0]["endsAt"] > first)
            sender.stop()
            wait_for(lambda: not known(base))
    finally:
        if sender is not None:
            sender.stop()
    assert outbox.pending() == 0
