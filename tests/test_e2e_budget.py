"""The price is enforced: over its budget the daemon sheds; a collector that hangs or is late hurts nobody else."""

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from etio.core.frame import NS, Reading
from etio.core.ports import CollectorSpec
from etio.core.series import Series
from etio.daemon import runner as running
from etio.daemon.budget import Budget
from etio.daemon.runner import Runner
from etio.daemon.sampler import Sampler
from etio.daemon.shedding import Shedding
from tests import daemon_rig as rigs
from tests.drill_collectors import Config, Drill

pytestmark = pytest.mark.slow

SETTINGS = """
[daemon]
ebpf = "{ebpf}"
root = "{root}"
cpu_budget_percent = 15.0
cpu_budget_s = 3.0
shed_retry_s = 25.0
"""


@contextlib.contextmanager
def rooms():
    """A folder with a copy of the program, `rooms` in it, that a test changes before a daemon runs it."""
    with rigs.folder() as folder:
        for room in rigs.ROOMS:
            shutil.copytree(rigs.ROOT / room, folder / "rooms" / room, ignore=shutil.ignore_patterns("__pycache__"))
        yield folder


@contextlib.contextmanager
def daemon(folder: Path, ebpf: str = "off"):
    """A daemon on a recorded host, from the rooms in the folder."""
    flags = folder / "flags"
    flags.mkdir(mode=0o755)
    subprocess.run(["chmod", "-R", "a+rX", str(folder)], check=True)
    host = rigs.FakeHost(folder)
    rig = rigs.Rig(folder, SETTINGS.format(root=host.root, ebpf=ebpf))
    rig.host, rig.flags = host, flags
    try:
        yield rig.start(PYTHONPATH=str(folder / "rooms"), ETIO_DRILL=str(flags))
    finally:
        rig.close()


@pytest.fixture
def drilled():
    """A daemon with the two collectors of drill_collectors, and the folder of their flags."""
    with rooms() as folder:
        drill = Path(__file__).with_name("drill_collectors.py").read_text()
        (folder / "rooms/collector/drill_burn.py").write_text(drill)
        (folder / "rooms/collector/drill_hang.py").write_text(drill + "\n\nCOLLECTOR = spec(Sleeper)\n")
        with daemon(folder) as rig:
            yield rig


SWITCH = "int sched_switch(u64 *ctx)\n{\n"
STATS = Path("/proc/sys/kernel/bpf_stats_enabled")
STORM = """
import os
ours, theirs = os.pipe(), os.pipe()
if os.fork():
    ours, theirs = theirs, ours
else:
    os.write(ours[1], b"x")
while os.read(theirs[0], 1):
    os.write(ours[1], b"x")
"""
"""Two processes that wake each other, for ever."""


@pytest.fixture
def dear():
    """A daemon whose program on context switches costs some microseconds; the kernel counts what programs cost."""
    before = STATS.read_text()
    with rooms() as folder:
        source = folder / "rooms/collector/ebpf/sched.bcc.c"
        text = source.read_text()
        assert SWITCH in text
        source.write_text(text.replace(SWITCH, SWITCH + "bpf_ktime_get_ns();" * 500))
        prices = source.with_name("families.py")
        assert "ns=80" in prices.read_text(), "for the case that somebody else switches the kernel's account off"
        prices.write_text(prices.read_text().replace("ns=80", "ns=20_000", 1))
        try:
            STATS.write_text("1")
            with daemon(folder, "auto") as rig:
                rigs.wait_for(lambda: rig.status()["tier_reason"] != "loading", 120, 0.3)
                yield rig
        finally:
            STATS.write_text(before)


@contextlib.contextmanager
def storm():
    """As many context switches as the host can do."""
    crowd = [subprocess.Popen([sys.executable, "-I", "-c", STORM], start_new_session=True)
             for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for one in crowd:
            os.killpg(one.pid, 9)
            one.wait()


def state(rig, name: str) -> dict:
    return next(c for c in rig.status()["collectors"] if c["name"] == name)


def newest_missing(rig) -> str:
    """What the newest report says could not be seen."""
    heads = rig.get("/api/v1/reports?limit=1")["reports"]
    return str(rig.get(f"/api/v1/reports/{heads[0]['id']}")["data_quality"]["missing"]) if heads else ""


def test_over_its_budget_it_sheds_and_takes_back(drilled):
    rigs.wait_for(lambda: state(drilled, "drill_burn")["state"] == "on")
    (drilled.flags / "burn").touch()
    rigs.wait_for(lambda: state(drilled, "drill_burn")["state"] == "shed", 60)
    told = state(drilled, "drill_burn")
    assert "budget of 15 %" in told["reason"]
    assert "cpu_budget_percent" in told["remedy"]
    drilled.host.exhaust()
    rigs.wait_for(lambda: "drill_burn: etio used" in newest_missing(drilled), 90, 0.3)
    (drilled.flags / "burn").unlink()
    rigs.wait_for(lambda: state(drilled, "drill_burn")["state"] == "on", 90, 0.2)


@pytest.mark.needs_bpf
@pytest.mark.needs_root
def test_programs_over_the_budget_are_taken_off_and_loaded_again(dear):
    assert state(dear, "ebpf sched")["state"] == "on"
    with storm():
        rigs.wait_for(lambda: state(dear, "ebpf sched")["state"] == "shed", 90, 0.3)
        told = state(dear, "ebpf sched")
        assert "budget of 15 %" in told["reason"]
        assert "cpu_budget_percent" in told["remedy"]
        assert told["seconds_total"] > 0.5
        attached = {one["name"] for one in dear.status()["programs"]}
        assert attached
        assert "sched_switch" not in attached
        doctor = rigs.etio("doctor", "--json", url=dear.url).stdout
        assert "ebpf sched" in doctor
        dear.host.exhaust()
        rigs.wait_for(lambda: "ebpf sched: etio used" in newest_missing(dear), 90, 0.3)
    rigs.wait_for(lambda: state(dear, "ebpf sched")["state"] == "on", 120, 0.3)
    on_ns = time.time_ns()
    newest = "SELECT epoch_ns(max(t)) FROM samples WHERE name = 'sched_switches_per_second'"
    rigs.wait_for(lambda: dear.query(newest)[0][0] > on_ns, 60, 0.5)


def test_a_collector_that_hangs_is_left_alone(drilled):
    rigs.wait_for(lambda: state(drilled, "drill_hang")["state"] == "on")
    (drilled.flags / "hang").touch()
    rigs.wait_for(lambda: "drill_hang has not answered" in drilled.text(), 60)
    before = drilled.status()["frames"]
    rigs.wait_for(lambda: drilled.status()["frames"] > before + 5, 60)
    rigs.wait_for(lambda: state(drilled, "drill_hang")["state"] == "failed", 60)
    drilled.host.exhaust()
    rigs.wait_for(lambda: "drill_hang: has not answered" in newest_missing(drilled), 90, 0.3)
    assert drilled.status()["ready"]
    (drilled.flags / "hang").unlink()
    rigs.wait_for(lambda: state(drilled, "drill_hang")["state"] == "on", 60)


# -- parts ------------------------------------------------------------------------------------------------------------


class Late(Drill):
    """Sleeps as long as it is told."""

    flag = "late"

    def __init__(self, config=None):
        self.sleep_s = 0.0
        self._series = (Series("late", "1"),)

    def collect(self, t_ns):
        time.sleep(self.sleep_s)
        return Reading(self._series, np.ones(1))


def test_a_late_collector_gets_a_thread_and_is_read_less_often():
    late = Late()
    one = Runner(CollectorSpec("late", Config, Late, "", ()), late, Path("/"), 1.0)
    assert one.take(NS) is not None
    late.sleep_s = running.DEADLINE_S + 0.2
    assert one.take(3 * NS, running.run_delay_s()) is not None
    assert one.slow
    assert "slower than its deadline" in one.trouble
    assert one.max_age_ns > 5 * NS
    late.sleep_s = 0.0
    rigs.wait_for(lambda: one.take(time.time_ns()) is not None, 20)
    rigs.wait_for(lambda: not one.trouble, 20)
    one.stop()


def test_time_spent_waiting_for_a_processor_is_not_its_fault(monkeypatch):
    late = Late()
    one = Runner(CollectorSpec("late", Config, Late, "", ()), late, Path("/"), 1.0)
    one.take(NS)
    late.sleep_s = running.DEADLINE_S + 0.2
    monkeypatch.setattr(running, "run_delay_s", lambda: 0.6)  # as the kernel counts it on a busy host
    assert one.take(3 * NS, 0.0) is not None
    assert not one.slow
    assert one.trouble == ""


def budget_of(limit: float) -> Budget:
    one = Budget(limit, over_s=6.0)
    assert not one.over()
    return one


def burn(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def test_only_our_own_processor_time_counts():
    waits, works = budget_of(50.0), budget_of(0.01)
    for _ in range(8):
        time.sleep(0.03)  # a host without a free processor: time passes, we do not run
        waits.measure()
    assert not waits.over()
    for _ in range(8):
        burn(0.02)
        works.measure()
    assert works.over()
    assert not works.over(), "it counts anew"


def test_a_burst_is_not_over_the_budget():
    one = budget_of(20.0)
    one.measure()
    burn(0.3)
    for _ in range(8):
        one.measure()
        time.sleep(0.02)
    assert not one.over()


def runner(name: str, load: float, optional: bool = True) -> Runner:
    made = Runner(CollectorSpec(name, Config, Late, "", (), optional=optional), Late(), Path("/"), 1.0)
    made.take(NS)
    made.load = load
    return made


class Measured(Budget):
    """A budget whose findings are set by the test."""

    exceeded = True

    def over(self):
        return self.exceeded

    def room(self):
        return not self.exceeded


def test_the_dearest_optional_one_goes_and_comes_back_later_each_time():
    runners = [runner("cheap", 0.01), runner("dear", 0.03), runner("needed", 0.5, optional=False)]
    budget = Measured(5.0)
    shedding = Shedding(budget, runners, 60.0, lambda: None)
    t = NS
    for pause in (60, 120):
        budget.exceeded = True
        shedding.tick(t)
        assert [r.state for r in runners] == ["on", "shed", "on"]
        assert runners[1].take(t) is None
        budget.exceeded = False
        shedding.tick(t + int((pause - 1) * NS))
        assert runners[1].state == "shed", "not yet"
        shedding.tick(t + int((pause + 11) * NS))
        assert runners[1].state == "off"
        t += 1000 * NS
        runners[1].take(t)
        runners[1].load = 0.03
        assert runners[1].state == "on"


def test_what_costs_next_to_nothing_is_kept(caplog):
    runners = [runner("cheap", 0.0001), runner("needed", 0.5, optional=False)]
    shedding = Shedding(Measured(5.0), runners, 60.0, lambda: None)
    for i in range(3):
        shedding.tick(i * 100 * NS)
    assert [r.state for r in runners] == ["on", "on"]
    assert sum("no optional part is to blame" in r.message for r in caplog.records) == 1


def test_the_sampler_goes_on_without_the_one_that_hangs():
    hung = threading.Event()

    class Hangs(Late):
        def collect(self, t_ns):
            if hung.is_set():
                rigs.wait_for(lambda: not hung.is_set(), 60)
            return super().collect(t_ns)

    cuts, got = [], []
    good = Runner(CollectorSpec("good", Config, Late, "", ()), Late(), Path("/"), 0.1)
    bad = Runner(CollectorSpec("bad", Config, Late, "", ()), Hangs(), Path("/"), 0.1)
    one = Sampler([bad, good], 0.1, lambda r, t, _: got.append(r.spec.name), cuts.append)
    one.start()
    rigs.wait_for(lambda: "bad" in got and "good" in got)
    hung.set()

    def isolated() -> bool:
        time.sleep(0.5)
        one.watch()
        return bad.slow
    rigs.wait_for(isolated, 30)
    seen = len(cuts)
    rigs.wait_for(lambda: len(cuts) > seen + 5)
    hung.clear()
    got.clear()
    rigs.wait_for(lambda: "bad" in got and "good" in got, 30)
    one.stop()
