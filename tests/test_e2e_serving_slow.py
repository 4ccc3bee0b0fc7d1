"""Steps that take longer than their load explains are told, and a host that starves the server as the reason."""

import contextlib
import os
import subprocess
import sys

import pytest

import collector
from bench import inference_server as sim
from etio.core.policy import ALERTS
from tests import daemon_rig as rigs

pytestmark = pytest.mark.slow
KEPT = {"inference", "cpu", "pressure"}
SECTIONS = rigs.QUIET + f"""
[engine]
settle_s = 4.0
refresh_s = 1.0
mute = {sorted(set(ALERTS) - {"ServingSlow"})}
for_s = {{ ServingSlow = 2.0 }}
[daemon]
ebpf = "off"
tick_s = 0.2
disabled = {sorted(set(collector.discover()) - KEPT)}
periods = {{ inference = 0.2, cpu = 0.2, pressure = 0.2 }}
[collector.inference]
look_s = 1.0
max_servers = 32
timeout_s = 2.0
[detector.serving_latency]
first = 16
false_alarm = 0.1
least_excess = 1.0
"""
SHORT_OF_CPU = {"serving_slow_host", "cpu_saturation", "runqueue_contention", "cpu_affinity"}
"""What may be found where its threads wait for a CPU: the first of them, unless the whole machine is that busy."""
HOG = "while True: pass"


@contextlib.contextmanager
def on_one_cpu():
    """What is started within runs on one CPU only."""
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cpus)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cpus)


@contextlib.contextmanager
def hogs(folder, count):
    """So many loops of the program `batch-job` on the server's CPU."""
    program = folder / "batch-job"
    program.symlink_to(sys.executable)
    with on_one_cpu():
        processes = [subprocess.Popen([str(program), "-c", HOG]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


class Story:
    def __init__(self, rig, server):
        self.rig, self.name = rig, f"vllm:{server.port}"

    def told(self):
        """The newest alert of the server, or None."""
        found = [a for a in self.rig.get("/api/v1/alerts?state=all")["alerts"]
                 if a["name"] == "ServingSlow" and a["labels"].get("server") == self.name]
        return max(found, key=lambda a: a["pending_ns"], default=None)

    def is_slow(self):
        one = self.told()
        return one if one and one["state"] == "firing" else None

    def knows(self):
        """Whether the latency model of the server has an opinion, that is has learned what its steps take."""
        rows = self.rig.get("/api/v1/inference")["servers"]
        return any(self.name in s["server"] and len(s["steps"]) >= 50 for s in rows)

    def reports(self):
        heads = self.rig.get("/api/v1/reports?limit=20")["reports"]
        return [self.rig.get(f"/api/v1/reports/{h['id']}") for h in heads]


def test_steps_slower_than_their_load_explains_are_told_with_their_reason():
    with rigs.daemon(settings=SECTIONS) as rig, contextlib.ExitStack() as stack:
        with on_one_cpu():
            server = stack.enter_context(sim.started(rig.folder, rigs.free_port(), "--max-num-seqs", "64",
                                                     cpu_ms=2, floor_ms=40))
        server.load(rate=3.0, prompt_tokens=8, output_tokens=60)
        rig.start()
        story = Story(rig, server)
        rigs.wait_for(story.knows, 60)
        with hogs(rig.folder, 4):
            # How much a taken CPU alone costs depends on what else this machine does; with fewer requests for the
            # longer steps as many are served at once as before, a load that the model knows.
            server.load(slow=6.0, rate=0.5)
            slow = rigs.wait_for(story.is_slow, 90)
            assert "slower than its load explains: a step takes " in slow["summary"]
            assert " where this load explains " in slow["summary"]
            report = rigs.wait_for(lambda: next(iter(story.reports()), None), 60)
        causes = {f["cause"] for f in report["findings"]}
        assert causes & SHORT_OF_CPU, (causes, report["summary"], report["follows"])
        assert rig.stop() == 0
        assert "Traceback" not in rig.text()
