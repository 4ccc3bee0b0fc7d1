"""Delivery to a real receiver process: down and up again, refusing, slow, and across a restart of ours."""

import json
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import pytest

from api.config import BadSetting, Target, WebhookConfig
from api.webhook import OutboxItem, Sender, backoff_s, judge
from etio.core.errors import ConfigError, StoreError
from etio.core.event import Notify
from tests.sample_report import NS, make_incident, make_report

RECEIVER = Path(__file__).with_name("webhook_receiver.py")
REASONS = ["first notification", "report ready", "all alerts resolved"]
NOW = 1_795_248_000 * NS


@dataclass
class MemoryOutbox:
    """The outbox of the store, without the disk."""

    items: dict[str, OutboxItem] = field(default_factory=dict)

    def put(self, item):
        self.items[item.id] = item

    def due(self, now_ns, limit=50):
        due = [i for i in self.items.values() if i.next_ns <= now_ns]
        return sorted(due, key=lambda i: (i.created_ns, i.id))[:limit]

    def delivered(self, item_id):
        self.items.pop(item_id)

    def failed(self, item_id, next_ns, error):
        item = self.items[item_id]
        self.items[item_id] = replace(item, tries=item.tries + 1, next_ns=next_ns, last_error=error)

    def pending(self):
        return len(self.items)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def wait_for(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.02)
    pytest.fail("it did not happen in time")


@contextmanager
def receiver(port, log, *codes):
    process = subprocess.Popen([sys.executable, str(RECEIVER), str(port), str(log), *map(str, codes)])
    try:
        wait_for(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
        yield process
    finally:
        process.kill()
        process.wait()


def read(log):
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


@contextmanager
def sending(outbox, *targets, **settings):
    told = []
    settings = {"min_retry_s": 0.05, "max_retry_s": 0.2, **settings}
    sender = Sender(WebhookConfig(targets, **settings), outbox, on_give_up=told.append)
    sender.start()
    try:
        yield sender, told
    finally:
        sender.stop()


def firing():
    incident = make_incident(NOW, report="none")
    return Notify(incident, incident.alerts)


def story():
    """Firing, report ready, resolved: what one incident sends."""
    done = make_incident(NOW, "resolved")
    return firing(), Notify(make_incident(NOW), (), make_report(NOW)), Notify(done, done.alerts)


def test_one_incident_arrives_in_order_with_the_token(tmp_path):
    port, outbox, log = free_port(), MemoryOutbox(), tmp_path / "log"
    (tmp_path / "token").write_text("s3cret\n")
    target = Target(f"http://127.0.0.1:{port}/hook?x=1", token_file=str(tmp_path / "token"))
    with receiver(port, log), sending(outbox, target) as (sender, told):
        for notify in story():
            sender.queue(notify, "gpu-17", "http://127.0.0.1:9842")
        wait_for(lambda: not outbox.pending())
    got = read(log)
    assert [g["body"]["notification_reason"] for g in got] == REASONS
    assert {(g["path"], g["authorization"]) for g in got} == {("/hook?x=1", "Bearer s3cret")}
    assert got[0]["body"]["externalURL"] == "http://127.0.0.1:9842"
    assert told == []


def test_a_receiver_that_comes_up_late_gets_everything_in_order(tmp_path):
    port, outbox, log = free_port(), MemoryOutbox(), tmp_path / "log"
    with sending(outbox, Target(f"http://127.0.0.1:{port}/")) as (sender, told):
        for notify in story():
            sender.queue(notify, "gpu-17")
        wait_for(lambda: max(i.tries for i in outbox.items.values()) >= 2)
        assert outbox.pending() == 3
        assert "ConnectError" in next(iter(outbox.items.values())).last_error
        with receiver(port, log):
            wait_for(lambda: not outbox.pending())
    assert [g["body"]["notification_reason"] for g in read(log)] == REASONS
    assert told == []


def test_what_is_left_at_the_end_is_sent_by_the_next_run(tmp_path):
    port, outbox, log = free_port(), MemoryOutbox(), tmp_path / "log"
    target = Target(f"http://127.0.0.1:{port}/")
    with sending(outbox, target) as (sender, _):
        sender.queue(firing(), "gpu-17")
        wait_for(lambda: next(iter(outbox.items.values())).tries)
    assert outbox.pending() == 1
    with receiver(port, log), sending(outbox, target):
        wait_for(lambda: not outbox.pending())
    assert len(read(log)) == 1


@pytest.mark.slow
def test_errors_of_the_server_are_retried_and_the_pause_it_asks_for_is_kept(tmp_path):
    port, outbox, log = free_port(), MemoryOutbox(), tmp_path / "log"
    with receiver(port, log, 500, 503, 429), sending(outbox, Target(f"http://127.0.0.1:{port}/")) as (sender, told):
        begin = time.monotonic()
        sender.queue(firing(), "gpu-17")
        wait_for(lambda: not outbox.pending())
        assert time.monotonic() - begin > 1.0
    assert [g["code"] for g in read(log)] == [500, 503, 429, 200]
    assert told == []


@pytest.mark.parametrize("code", [400, 401, 404, 302])
def test_a_refusal_is_given_up_and_told_without_the_secret_path(tmp_path, code):
    port, outbox, log = free_port(), MemoryOutbox(), tmp_path / "log"
    with receiver(port, log, code), sending(outbox, Target(f"http://127.0.0.1:{port}/secret")) as (sender, told):
        sender.queue(firing(), "gpu-17")
        sender.queue(firing(), "gpu-17")
        wait_for(lambda: not outbox.pending())
        assert sender.given_up == 1
    assert [g["code"] for g in read(log)] == [code, 200]
    assert {g["path"] for g in read(log)} == {"/secret"}
    assert len(told) == 1
    assert f"webhook to http://127.0.0.1:{port} given up after 1 tries: HTTP {code}" in told[0]
    assert "secret" not in told[0]


def test_a_dead_receiver_does_not_hold_up_another(tmp_path):
    dead, port, outbox, log = free_port(), free_port(), MemoryOutbox(), tmp_path / "log"
    targets = (Target(f"http://127.0.0.1:{dead}/"), Target(f"http://127.0.0.1:{port}/"))
    with receiver(port, log), sending(outbox, *targets, min_retry_s=60.0, max_retry_s=60.0) as (sender, _):
        for _ in range(60):
            sender.queue(firing(), "gpu-17")
        wait_for(lambda: len(read(log)) == 60)
    assert outbox.pending() == 60
    assert sum(i.tries for i in outbox.items.values()) == 1


def test_a_receiver_that_never_answers_times_out(tmp_path):
    outbox = MemoryOutbox()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = Target(f"http://127.0.0.1:{silent.getsockname()[1]}/", timeout_s=0.2)
        with sending(outbox, target) as (sender, _):
            sender.queue(firing(), "gpu-17")
            wait_for(lambda: "ReadTimeout" in next(iter(outbox.items.values())).last_error)


def test_too_old_an_item_is_given_up_and_one_without_target_too():
    outbox = MemoryOutbox()
    outbox.put(OutboxItem("1", "http://127.0.0.1:1/", "{}", 1))
    outbox.put(OutboxItem("2", "http://gone.example/", "{}", time.time_ns()))
    with sending(outbox, Target("http://127.0.0.1:1/")) as (_, told):
        wait_for(lambda: not outbox.pending())
    assert "ConnectError" in told[0]
    assert "no longer in the configuration" in told[1]


def test_trouble_of_the_store_does_not_end_the_thread(tmp_path):
    port, outbox, log = free_port(), MemoryOutbox(), tmp_path / "log"
    sound, outbox.due = outbox.due, lambda *_: (_ for _ in ()).throw(StoreError("disk full"))
    with receiver(port, log), sending(outbox, Target(f"http://127.0.0.1:{port}/")) as (sender, _):
        sender.queue(firing(), "gpu-17")
        time.sleep(0.2)
        outbox.due = sound
        sender.queue(firing(), "gpu-17")
        wait_for(lambda: not outbox.pending())
    assert len(read(log)) == 2


def test_without_targets_nothing_runs():
    outbox = MemoryOutbox()
    with sending(outbox) as (sender, _):
        sender.queue(firing(), "gpu-17")
        assert sender._thread is None
    assert not outbox.items


@pytest.mark.parametrize(("code", "ok", "retry"), [
    (200, True, True), (204, True, True), (301, False, False), (400, False, False), (408, False, True),
    (409, False, False), (429, False, True), (500, False, True), (503, False, True)])
def test_which_answers_are_tried_again(code, ok, retry):
    assert (judge(code).ok, judge(code).retry) == (ok, retry)


def test_the_pause_doubles_up_to_its_bound():
    assert [round(backoff_s(n, 1.0, 300.0)) >= 0.7 * 2**n for n in range(8)] == [True] * 8
    assert max(backoff_s(n, 1.0, 300.0) for n in range(2000)) <= 375
    assert judge(429, "7").wait_s == 7
    assert judge(503, "Fri, 31 Dec 1999 23:59:59 GMT").wait_s == 0


@pytest.mark.parametrize("url", ["", "127.0.0.1:9093", "ftp://x/", "http://", "file:///etc/passwd"])
def test_what_is_no_http_address_is_refused(url):
    with pytest.raises(BadSetting, match="no http"):
        Target(url)


def test_a_token_file_that_is_missing_stops_the_start():
    with pytest.raises(ConfigError, match="token_file: /none"):
        Sender(WebhookConfig((Target("http://127.0.0.1:1/", token_file="/none"),)), MemoryOutbox())


def test_what_was_to_be_tried_again_later_is_due_when_the_clock_is_set_back(tmp_path):
    """A receiver that was away; then an hour is gone from the clock, and nobody waits for it to come again."""
    port, log, outbox = free_port(), tmp_path / "log", MemoryOutbox()
    target = Target(f"http://127.0.0.1:{port}/")
    made = Sender(WebhookConfig((target,)), outbox)
    outbox.put(OutboxItem("1", target.endpoint, "{}", NOW, tries=3, next_ns=NOW + 60 * NS))
    with receiver(port, log), httpx.Client(trust_env=False) as client:
        made._round(client, NOW)
        assert outbox.pending() == 1
        made._round(client, NOW - 3600 * NS)
        assert outbox.pending() == 0
    assert len(read(log)) == 1
