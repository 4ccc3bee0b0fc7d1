"""A vLLM server nobody told the daemon about runs out of KV cache: an alert, a report with the flag to turn; a kill."""

import contextlib
import json
import time

import pytest

from bench import inference_server as sim
from etio.core.policy import ALERTS
from tests import daemon_rig as rigs

pytestmark = pytest.mark.slow  # other alerts are muted: what else happens on a test machine is not the matter here
OURS = {"KvCacheFull", "ServingQueueLong", "ServingDown", "ServingSlow"}
SECTIONS = rigs.QUIET + f"""
[engine]
settle_s = 2.0
refresh_s = 2.0
mute = {sorted(set(ALERTS) - OURS)}
[daemon]
ebpf = "off"
[collector.inference]
look_s = 1.0
max_servers = 32
"""


class Story:
    def __init__(self, rig, server):
        self.rig, self.server = rig, server
        self.name = f"vllm:{server.port}"

    def latest(self, series):
        rows = self.rig.query(f"select value from samples where key like 'inference_{series}{{%{self.server.port}%' "
                              "order by t desc limit 1")
        return rows[0][0] if rows else None

    def incident(self, alert):
        for one in self.rig.get("/api/v1/incidents")["incidents"]:
            if any(a["name"] == alert and a["labels"].get("server") == self.name for a in one["alerts"]):
                return one
        return None

    def report(self, alert):
        incident = rigs.wait_for(lambda: self.incident(alert), 60)
        return rigs.wait_for(lambda: self.newest(incident["id"], alert), 40)

    def newest(self, incident_id, alert):
        heads = self.rig.get("/api/v1/reports?limit=100")["reports"]
        reports = [self.rig.get(f"/api/v1/reports/{h['id']}") for h in heads if h["incident_id"] == incident_id]
        return next((r for r in reports if any(a.startswith(alert) for a in r["alerts"])), None)


@pytest.fixture(scope="module")
def story():
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(rigs.folder())
        flags = ("--gpu-memory-utilization", "0.85", "--max-num-seqs", "64", "--api-key", "sk-SECRET")
        server = stack.enter_context(sim.started(folder, rigs.free_port(), *flags, blocks=600))
        rig = rigs.Rig(folder, "", settings=SECTIONS)
        stack.callback(rig.close)
        server.load(rate=2.0, prompt_tokens=200, output_tokens=60)
        rig.start()
        yield Story(rig, server)


def test_the_server_is_found_from_its_listening_socket(story):
    found = rigs.wait_for(lambda: [s["key"] for s in story.rig.get("/api/v1/series?match=inference_step_seconds")[
        "series"] if str(story.server.port) in s["key"]], 40)
    assert found == [f'inference_step_seconds{{model="meta-llama/Llama-3.1-8B-Instruct",server="{story.name}"}}']


def test_a_load_that_is_served_raises_nothing(story):
    until = time.monotonic() + 3
    while time.monotonic() < until:
        assert not [a for a in story.rig.get("/api/v1/alerts")["alerts"] if a["labels"].get("server") == story.name]
        time.sleep(1)


def test_a_full_kv_cache_is_told_with_the_flag_to_turn(story):
    story.server.load(rate=25.0, prompt_tokens=600, output_tokens=200)
    report = story.report("KvCacheFull")
    assert report["findings"][0]["cause"] == "kv_cache_exhausted", report["summary"]
    assert report["verdict"] == "CONFIRMED"
    assert report["culprit"]["name"] == story.name
    assert report["culprit"]["pid"] == story.server.process.pid
    turn = next(s for s in report["suggestions"] if s["card"] == "vllm-gpu-memory")
    assert (turn["current"], turn["proposed"]) == ("0.85", "0.9")
    assert "--gpu-memory-utilization 0.9" in turn["apply"]
    assert {s["card"] for s in report["suggestions"]} >= {"vllm-gpu-memory", "vllm-max-num-seqs-down"}
    told = json.dumps(report)
    assert "SECRET" not in told
    alert = next(a for a in story.incident("KvCacheFull")["alerts"] if a["name"] == "KvCacheFull")
    assert alert["value"] > 0.9
    assert "requests wait" in alert["summary"]


def test_its_learned_steps_answer_capacity(story):
    rigs.wait_for(lambda: sum(len(s["steps"]) for s in story.rig.get("/api/v1/inference")["servers"]) >= 12, 60)
    done = rigs.etio("capacity", "--server", story.name, "--json", "--target-ms", "60", url=story.rig.url)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["set"].startswith(story.name)
    assert answer["fit"]["rows"] >= 12
    nobody = rigs.etio("capacity", "--server", "tgi:1", url=story.rig.url)
    assert nobody.returncode != 0
    assert "tgi:1" in nobody.stderr


def test_a_server_killed_at_work_is_down(story):
    story.server.process.kill()
    report = story.report("ServingDown")
    assert "server_down" in [f["cause"] for f in report["findings"]], report["summary"]
    assert any("gone" in e["claim"] for e in report["evidence"]), [e["claim"] for e in report["evidence"]]


def test_nothing_went_wrong_that_nobody_saw(story):
    text = story.rig.text()
    assert story.rig.stop() == 0
    for sign in ("Traceback", "SECRET", "ResourceWarning"):
        assert sign not in text, text
