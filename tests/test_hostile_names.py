"""Names that steer terminals, forge log lines or break sentences: alerts, logs and tables stay what they are."""

import io
import logging

import numpy as np
import pytest
from rich.console import Console

from api.payload import payload
from detectors.hard_rules import Config, HardRules
from etio import show
from etio.cli import OneLine
from etio.core.engine import Engine, Judge
from etio.core.event import FrameReady, HostEvent, Notify
from etio.core.frame import NS, Frame
from etio.core.policy import EngineConfig
from etio.core.series import Series, labels
from etio.core.words import visible

EVIL = "/m<b>$(id)'\nERROR etio: forged\"\x1b[31m|`x\u202e"
T0 = 1_790_000_000


def notices(*events):
    engine = Engine(EngineConfig(), [Judge(HardRules(Config()), "rule")])
    return [a for event in events for a in engine.step(event) if isinstance(a, Notify)]


@pytest.fixture
def full_disk():
    own = labels(device="tmpfs", mount=EVIL, type="tmpfs")
    series = (Series("filesystem_used_ratio", "ratio", labels=own), Series("filesystem_readonly", "1", labels=own))
    return notices(*(FrameReady(Frame((T0 + t) * NS, series, np.array([1.0, 0.0]))) for t in range(20)))


def test_what_people_read_of_an_alert_is_one_line(full_disk):
    notes = payload(full_disk[0], "vm", "")["alerts"][0]["annotations"]
    assert notes["summary"].startswith("/m<b>$(id)' ERROR etio: forged\" [31m|`x is full")
    assert all(text.isprintable() for text in notes.values())
    assert full_disk[0].alerts[0].labels == labels(device="tmpfs", mount=EVIL, type="tmpfs"), "the name itself is kept"


def test_events_as_well():
    told = notices(HostEvent(T0 * NS, "link_down", f"device={EVIL}"))
    assert "forged" in told[0].alerts[0].summary
    assert told[0].alerts[0].summary.isprintable()


def test_a_log_line_cannot_be_forged():
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(OneLine("%(levelname)s %(name)s: %(message)s"))
    record = logging.LogRecord("etio.daemon.loop", logging.INFO, "", 0, "event %s", (EVIL,), None)
    handler.emit(record)
    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()


def test_a_table_does_not_steer_the_terminal(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(show, "console", Console(file=stream, width=400))
    show.table({"columns": ["key", EVIL], "rows": [[EVIL, None]], "truncated": False})
    show.alerts([{"severity": EVIL, "model": "m", "name": "n", "summary": EVIL, "value": 1.0, "unit": "1", "state": "s",
                  "pending_ns": 0, "incident_id": "i"}])
    assert "\x1b" not in stream.getvalue()
    assert stream.getvalue().count("\n") == 4
    assert visible(EVIL) in stream.getvalue()


def test_a_process_is_called_by_its_name():
    told = notices(HostEvent(T0 * NS, "fds_exhausted", "pid=4711", (("comm", "session\x1bd"),)))
    assert told[0].alerts[0].summary == "session d (pid 4711) may open no more files"
    assert dict(told[0].alerts[0].labels)["pid"] == "4711"
