"""Parts of the shell around the engine: loop, notices, RCA worker, facts, privileges, sd_notify."""

import io
import os
import subprocess
import sys
import threading
import time
from math import isnan
from pathlib import Path

import numpy as np
import pytest

from etio.core.alert import Alert, Incident
from etio.core.engine import Engine
from etio.core.errors import Broken, StoreError
from etio.core.event import FrameReady, HostEvent, Notify, ReportFailed, ReportReady, Tick
from etio.core.facts import Actor, ActorTable, Facts, HostInfo, ProcessTable, SocketTable
from etio.core.frame import NS, Frame, Reading
from etio.core.policy import EngineConfig
from etio.core.ports import CollectorSpec, Window
from etio.daemon import explain, notices, worker
from etio.daemon.explain import Explainer
from etio.daemon.facts import FactKeeper
from etio.daemon.handover import Request, receive, send
from etio.daemon.loop import QUEUE, Hands, Loop
from etio.daemon.notices import Notices
from etio.daemon.runner import Runner
from etio.daemon.sampler import Sampler
from etio.daemon.sdnotify import Notifier
from tests.daemon_rig import wait_for

T = 1_790_000_000 * NS
ALERT = Alert("f", "OomKill", "critical", "firing", (), "killed", "", float("nan"), "", 1.0, "event", T, T)
INCIDENT = Incident("2026-09-21-0001", T, (ALERT,))
NOTICE = Notify(INCIDENT, (ALERT,))


def hands(**more):
    nothing = {name: (lambda _: None) for name in ("frame", "write", "notify", "explain", "focus", "shed")}
    return Hands(**{**nothing, **more})


# -- loop -------------------------------------------------------------------------------------------------------------


def test_the_outbox_comes_before_the_record():
    order = []
    loop = Loop(Engine(EngineConfig(), ()), hands(write=lambda a: order.append(type(a.item).__name__),
                                                  notify=lambda a: order.append("notify")), Notifier())
    loop.handle(HostEvent(T, "oom_kill", "pid=5", (("comm", "x"),)))
    assert order == ["notify", "HostEvent", "Alert", "Incident"]


def test_posting_never_waits_and_only_frames_are_dropped():
    loop = Loop(Engine(EngineConfig(), ()), hands(), Notifier())
    frame = Frame(T, (), np.empty(0))
    for _ in range(QUEUE + 50):
        loop.post(FrameReady(frame))
    assert loop.dropped_frames == 50
    for i in range(3 * QUEUE):
        loop.post(Tick(T + i))
    loop.stop()
    thread = threading.Thread(target=loop.run)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert loop.frames == QUEUE


# -- notices ----------------------------------------------------------------------------------------------------------


class Sender:
    def __init__(self):
        self.full, self.got = False, []

    def queue(self, notice, host, address):
        if self.full:
            raise StoreError("the volume is full")
        self.got.append((notice.incident.id, host, address))


def test_notices_wait_in_order_while_the_store_is_full(caplog):
    sender = Sender()
    waiting = Notices(sender, "web1")
    waiting.put(NOTICE, "http://a")
    sender.full = True
    for i in range(3):
        waiting.put(Notify(Incident(f"i{i}", T, (ALERT,)), (ALERT,)), "http://a")
    for _ in range(20):
        waiting.push()
    assert len(waiting) == 3
    assert len(caplog.records) == 1, "said once"
    sender.full = False
    waiting.push()
    assert [g[0] for g in sender.got] == [INCIDENT.id, "i0", "i1", "i2"]
    assert len(waiting) == 0


def test_notices_are_bounded_and_what_is_lost_is_said(caplog, monkeypatch):
    monkeypatch.setattr(notices, "MOST", 5)
    sender = Sender()
    sender.full = True
    waiting = Notices(sender, "web1")
    for i in range(8):
        waiting.put(Notify(Incident(f"i{i}", T, (ALERT,)), (ALERT,)), "")
    assert len(waiting) == 5
    assert sum("is lost" in r.message for r in caplog.records) == 3
    waiting.close()
    assert "5 webhooks are lost" in caplog.text


# -- RCA worker -------------------------------------------------------------------------------------------------------


def request():
    window = Window((), np.empty(0, dtype=np.int64), np.empty((0, 0)))
    return Request(INCIDENT, T, Facts(host=HostInfo("web1", "6.1", "Debian", 2, 1, 1e9)), window, (), {"rca": {}})


@pytest.fixture
def explained(monkeypatch, tmp_path):
    """Runs one explanation by the given program in the worker's place; what was posted."""
    def run(script: str | None, deadline_s: float = 1.0):
        program = tmp_path / "worker"
        if script is not None:
            program.write_text(f"#!/bin/sh\n{script}\n")
            program.chmod(0o755)
        monkeypatch.setattr(worker.sys, "executable", str(program))
        posted = []
        one = Explainer(posted.append, deadline_s)
        one.warm(True)
        one.start()
        one.ask(request())
        wait_for(lambda: posted, 60, 0.01)
        one.stop()
        assert not one.is_alive()
        return posted
    return run


@pytest.mark.parametrize(("script", "reason"), [
    (None, "no RCA worker"), ("exit 3", "RCA worker"), ("cat >/dev/null; exit 3", "ended with status 3"),
    ("cat >/dev/null; echo '{\"id\": 5}'", "no report"), ("cat >/dev/null; echo nonsense", "no report"),
])
def test_a_worker_that_fails_is_a_report_that_failed(explained, script, reason):
    (event,) = explained(script, deadline_s=30.0)
    assert isinstance(event, ReportFailed)
    assert event.incident_id == INCIDENT.id
    assert reason in event.reason
    assert "within" not in event.reason


@pytest.mark.slow
def test_a_worker_that_hangs_is_given_up_in_time(explained):
    begin = time.monotonic()
    (event,) = explained("cat >/dev/null; sleep 60")
    assert "no report within 1 s" in event.reason
    assert time.monotonic() - begin < 40


def test_the_real_worker_explains_even_without_data():
    posted = []
    one = Explainer(posted.append, 30.0)
    one.start()
    one.ask(request())
    wait_for(lambda: posted, 60)
    one.stop()
    assert isinstance(posted[0], ReportReady), posted
    assert posted[0].report.incident_id == INCIDENT.id
    assert posted[0].report.verdict == "INCONCLUSIVE"
    assert list(one.pids)


def test_in_the_lean_profile_no_worker_waits():
    one = Explainer(print, 30.0, ahead=False)
    one.warm(True)
    assert not one.pids
    one.warm(False)


def test_too_many_explanations_fail_at_once():
    posted = []
    one = Explainer(posted.append, 1.0)  # its thread is not started: nothing is taken
    for _ in range(20):
        one.ask(request())
    assert len(posted) == 4
    assert all(isinstance(e, ReportFailed) for e in posted)
    assert explain.log.name == "etio.daemon.explain"


# -- sampler and facts ------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_sampler_that_dies_tells_so():
    died = threading.Event()

    def cut(t_ns):
        raise RuntimeError("a fault in the daemon itself")

    one = Sampler([], 0.1, lambda *_: None, cut, died.set)
    one.start()
    assert died.wait(30)
    quiet, cuts = threading.Event(), []
    other = Sampler([], 0.1, lambda *_: None, cuts.append, quiet.set)
    other.start()
    wait_for(lambda: len(cuts) > 2, 30)
    other.stop()
    assert not quiet.is_set()


def test_tables_that_cannot_be_read_are_said_once(caplog):
    keeper = FactKeeper(HostInfo("web1", "6.1", "Debian", 2, 1, 1e9))
    answers = iter([Broken("no /proc"), OSError("no /proc"), ProcessTable(T, ()), Broken("no /proc")])

    def read(t_ns):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    keeper.add("processes", read)
    keeper.focus = True
    for i in range(4):
        keeper.tick(T + i * NS)
    assert len(caplog.records) == 1
    assert keeper.facts(T).processes == (ProcessTable(T, ()),)


def test_of_what_lasts_there_is_a_table_from_which_who_does_it_now_can_be_told():
    keeper = FactKeeper(HostInfo("web1", "6.1", "Debian", 2, 1, 1e9))
    keeper.add("processes", lambda t_ns: ProcessTable(t_ns, ()))
    keeper.focus = True
    for second in range(160):
        keeper.tick(T + second * NS)
    ages = [159 - (t.t_ns - T) // NS for t in keeper.facts(T + NS).processes]
    assert len(ages) <= 13
    assert any(20 <= age <= 30 for age in ages)
    assert ages[0] >= 150


def test_sockets_are_listed_only_while_something_is_wrong():
    keeper = FactKeeper(HostInfo("web1", "6.1", "Debian", 2, 1, 1e9))
    keeper.add("sockets", SocketTable, closely=True)
    keeper.tick(T)
    assert keeper.facts(T).sockets == ()
    keeper.focus = True
    keeper.tick(T + NS)
    assert keeper.facts(T).sockets == (SocketTable(T + NS),)


def test_events_of_a_reading_that_nobody_took_come_with_the_next():
    spec = CollectorSpec("x", object, None, "", (), slow=True)
    runner = Runner(spec, None, Path("/"), 1.0, opened=True)  # never started: only its hand-over
    runner._thread = threading.current_thread()
    for t_ns, kind in ((1, "gpu_xid"), (2, "gpu_lost"), (3, "")):
        events = (HostEvent(t_ns, kind, "gpu=0"),) if kind else ()
        runner.leave((t_ns, Reading((), np.empty(0), None, events)))
    t_ns, reading = runner.take(4)
    assert (t_ns, [e.kind for e in reading.events]) == (3, ["gpu_xid", "gpu_lost"])
    assert runner.take(5) is None


def test_a_collector_with_nothing_to_do_rests():
    class Sleepy:
        rest_s = 4.0

        def collect(self, t_ns):
            return Reading((), np.empty(0))

    spec = CollectorSpec("x", object, None, "", ())
    sleepy, busy = Sleepy(), Sleepy()
    busy.rest_s = 0.0
    runners = [Runner(spec, one, Path("/"), 1.0, opened=True) for one in (sleepy, busy)]
    read = [[t for t in range(1, 11) if one.take(t * 10**9) is not None] for one in runners]
    assert read == [[1, 5, 9], list(range(1, 11))]
    sleepy.rest_s = 0.0
    assert runners[0].take(13 * 10**9) is not None
    assert runners[0].take(14 * 10**9) is not None


def test_looking_costs_its_share_and_old_tables_are_thinned():
    keeper = FactKeeper(HostInfo("web1", "6.1", "Debian", 2, 1, 1e9))
    seen = []

    def read(t_ns):
        seen.append(t_ns)
        until = time.thread_time() + 0.01
        while time.thread_time() < until:
            pass
        return ProcessTable(t_ns, ())

    keeper.add("processes", read)
    keeper.tick(T)
    keeper.tick(T + 19 * NS)
    assert len(seen) == 1, "10 ms are half a thousandth of twenty seconds"
    keeper._sources["processes"].cost_s = 0.2
    keeper.tick(T + 44 * NS)
    assert len(seen) == 1
    keeper.tick(T + 45 * NS)
    assert len(seen) == 2, "however dear: a report needs a table from before the trouble"
    keeper.focus = True
    for i in range(46, 166):
        keeper.tick(T + i * NS)
    early = sum(t < T + 66 * NS for t in seen)
    assert early >= 15, "each second at first"
    assert len(seen) - early <= 30, "then a fifth of that"
    kept = keeper.facts(T).processes
    assert [t.t_ns for t in kept[-8:]] == seen[-8:]
    assert len(keeper._sources["processes"].tables) < 35


def test_who_did_what_is_added_up_with_time_and_never_lost():
    keeper = FactKeeper(HostInfo("web1", "6.1", "Debian", 2, 1, 1e9))
    made = iter(range(1000))

    def read(t_ns):
        i = next(made)
        writes = Actor("block_io", f"fio-{i % 3}", 8 + i % 3, 0, 1.0, 512.0, "bytes")
        return ActorTable(t_ns - NS, t_ns, (Actor("fork", "make", 7, count=2.0), writes))

    keeper.add("actors", read)
    keeper.focus = True
    for i in range(100):
        keeper.tick(T + i * NS)
    kept = keeper.facts(T).actors
    assert len(kept) < 40
    assert [t.end_ns - t.start_ns for t in kept[-9:]] == [NS] * 9
    assert [t.start_ns for t in kept[1:]] == [t.end_ns for t in kept[:-1]]
    assert sum(a.count for t in kept for a in t.actors if a.kind == "fork") == 200
    assert sum(a.amount for t in kept for a in t.actors if a.kind == "block_io") == 51200
    assert all(isnan(a.amount) for t in kept for a in t.actors if a.kind == "fork")


@pytest.mark.slow
def test_a_worker_whose_daemon_was_killed_ends_without_a_word():
    whole = io.BytesIO()
    send(whole, request())
    data = whole.getvalue()
    assert receive(io.BytesIO(data)).incident.id == INCIDENT.id
    for cut in range(len(data)):
        assert receive(io.BytesIO(data[:cut])) is None
    with pytest.raises(Broken, match="odd request"):
        receive(io.BytesIO(b"what is this?"))
    command = [sys.executable, "-m", "etio.daemon.rca_worker"]
    done = subprocess.run(command, input=data[:-9], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    ours, theirs = os.pipe()
    os.close(ours)  # nobody reads what it finds out
    done = subprocess.run(command, input=data, stdout=theirs, stderr=subprocess.PIPE, check=False)
    os.close(theirs)
    assert (done.returncode, done.stderr) == (1, b"")
