"""kill -9 at any moment under load: a clean start, nothing lost but the last batch, nobody left untold."""

import contextlib
import random
import threading
import time

import pytest

from tests import daemon_rig as rigs

pytestmark = pytest.mark.slow
BATCH_S = 1.0
CONFIG = """
[daemon]
ebpf = "off"
root = "{root}"
tick_s = 0.1
[daemon.periods]
limits = 0.1
memory = 0.1
vmstat = 0.1
cpu = 0.1
[engine]
group_s = 0.1
settle_s = 0.1
for_s = {{ FileHandlesExhausted = 0.0, ConntrackFull = 0.0 }}
[store]
min_free_bytes = 0
batch_seconds = {batch}
compact = false
[rca.llm]
enabled = "off"
[[webhook.targets]]
url = "{hook}"
"""
KILLS = (("at the start", ""), ("report", "files"), ("fault ends", "files"), ("fault begins", "conntrack"),
         ("any", "files"), ("at the start", ""))


class Load:
    """People who look at everything all the time."""

    def __init__(self, rig: rigs.Rig) -> None:
        self._rig, self._end = rig, threading.Event()
        self._threads = [threading.Thread(target=self._look, args=(i,), daemon=True) for i in range(2)]
        for thread in self._threads:
            thread.start()

    def _look(self, number: int) -> None:
        paths = ("/api/v1/incidents", "/api/v1/series", "/metrics", "/api/v1/reports", "/api/v1/alerts")
        while not self._end.wait(0.05):
            with contextlib.suppress(OSError, ValueError):
                self._rig.raw(random.choice(paths))
                if number:
                    self._rig.query("SELECT count(*), max(t) FROM samples")

    def stop(self) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(20)


def last_frame(rig: rigs.Rig) -> int:
    with contextlib.suppress(OSError):
        return int(rig.status()["last_frame_ns"])
    return 0


def one_life(rig: rigs.Rig, host: rigs.FakeHost, moment: str, fault: str, chance: random.Random) -> int:
    """Runs until the chosen moment and is killed; returns the time of the last frame that was seen live."""
    rig.start(ready=False)
    if moment == "at the start":
        rigs.wait_for(lambda: any(rig.state.glob("*.duckdb*")), 30, 0.001)
        time.sleep(chance.uniform(0.0, 0.3))
        rig.kill()
        return 0
    rig.wait_ready()
    load = Load(rig)
    host.exhaust(fault)
    if moment == "report":
        rigs.wait_for(lambda: "report ready" in rig.text(), 20, 0.002)
    elif moment == "fault ends":
        time.sleep(chance.uniform(0.5, 1.5))
        host.relax()
        time.sleep(chance.uniform(0.2, 0.6))
    elif moment == "any":
        time.sleep(chance.uniform(0.5, 3.0))
    else:
        time.sleep(chance.uniform(0.0, 0.6))
    seen = last_frame(rig)
    rig.kill()
    load.stop()
    return seen


def test_killed_again_and_again_nothing_is_lost():
    seed = time.time_ns()
    print(f"seed {seed}")
    chance = random.Random(seed)
    with rigs.folder() as folder:
        host = rigs.FakeHost(folder)
        hooks = rigs.Receiver(folder)
        rig = rigs.Rig(folder, CONFIG.format(root=host.root, hook=hooks.url, batch=BATCH_S), settings="")
        try:
            for number, (moment, fault) in enumerate(KILLS):
                hooks.start() if number % 2 else hooks.stop()  # often down while the daemon dies
                born = time.time_ns()
                seen = one_life(rig, host, moment, fault, chance)
                hooks.stop()
                check_start(rig, born, seen, moment)
            hooks.start()
            live_on(rig, host, hooks)
        finally:
            rig.close()
            hooks.stop()


def check_start(rig: rigs.Rig, born_ns: int, seen_ns: int, moment: str) -> None:
    """The next start is clean and has everything but the last batch; then it dies again, too."""
    before = len(rig.text())
    rig.start()
    text = rig.text()[before:]
    for sign in ("Traceback", "set aside", "ERROR", "could not be read"):
        assert sign not in text, (moment, text)
    if seen_ns:
        started = rig.status()["started_ns"]
        found = rig.query(f"SELECT epoch_ns(max(t)) FROM samples WHERE epoch_ns(t) < {started}")[0][0]
        lost_s = (seen_ns - (found or born_ns)) / 1e9
        print(f"killed at {moment!r}: {max(lost_s, 0):.2f} s of samples lost")
        assert lost_s < BATCH_S + 3.0, moment  # a batch, and what a loaded machine adds to it
    rig.kill()


def live_on(rig: rigs.Rig, host: rigs.FakeHost, hooks: rigs.Receiver) -> None:
    """The last life: everything open is taken over and ends, everybody hears of it."""
    rig.start()
    left_open = [i["id"] for i in rig.get("/api/v1/incidents?limit=1000")["incidents"] if not i["resolved_ns"]]
    print(f"{len(left_open)} incidents adopted")
    host.relax()
    rigs.wait_for(lambda: all(i["resolved_ns"] for i in rig.get("/api/v1/incidents?limit=1000")["incidents"]), 60, 0.3)
    assert rig.get("/api/v1/alerts?state=firing")["alerts"] == []
    rigs.wait_for(lambda: rig.status()["webhooks_waiting"] == 0, 60, 0.3)
    incidents = rig.get("/api/v1/incidents?limit=1000")["incidents"]
    assert incidents
    told = [(b["groupLabels"]["incident"], b["notification_reason"], b["status"]) for b in hooks.bodies()]
    for incident in incidents:
        mine = [(reason, status) for i, reason, status in told if i == incident["id"]]
        assert any(status == "firing" and reason != "report ready" for reason, status in mine), (incident["id"], told)
        assert any(status == "resolved" for _, status in mine), (incident["id"], told)
        if any(r["incident_id"] == incident["id"] for r in rig.get("/api/v1/reports?limit=1000")["reports"]):
            assert any(reason == "report ready" for reason, _ in mine), (incident["id"], told)
        assert incident["report_state"] in ("ready", "failed", "none"), incident
    numbers = [r["id"] for r in rig.get("/api/v1/reports?limit=1000")["reports"]]
    assert len(numbers) == len(set(numbers))
    doubled = len(told) - len(set(told))
    print(f"{len(incidents)} incidents, {len(told)} webhooks, {doubled} of them told twice")
    assert rig.stop() == 0
    assert not list(rig.state.glob("*.wal"))
