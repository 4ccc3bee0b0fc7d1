"""The real daemon with a libnvidia-ml.so.1 of our own: heat, calls that hang, a GPU that is lost, a hanging start."""

import os
import sys
from pathlib import Path

import pytest

from tests import daemon_rig as rigs
from tests import nvml_double
from tests.test_systemd import UNDER_FILTER, allowed_calls, needs_analyze

pytestmark = pytest.mark.slow
CONFIG = """
[engine]
group_s = 0.2
settle_s = 0.5
[engine.for_s]
GpuThrottled = 2.0
[daemon]
ebpf = "off"
root = "{root}"
[collector.nvml]
slow_s = 1.0
deadline_s = 4.0
start_s = 4.0
"""
PATIENCE_S = 120
"""A test machine may be busy with other things."""


@pytest.fixture
def story():
    """story(change): four GPUs, a recorded host, and a daemon that sees them."""
    kept = []

    def begin(change=None):
        machine = nvml_double.machine(count=4)
        gpus = machine.__enter__()
        kept.append(lambda: machine.__exit__(None, None, None))
        if change:
            change(gpus)
        folder = rigs.folder()
        at = folder.__enter__()
        kept.append(lambda: folder.__exit__(None, None, None))
        host = rigs.FakeHost(at)  # so that nothing of this machine joins the story
        daemon = rigs.daemon(CONFIG.format(root=host.root))
        rig = daemon.__enter__()
        kept.append(lambda: daemon.__exit__(None, None, None))
        return gpus, rig.start(**gpus.environment)

    yield begin
    for end in reversed(kept):
        end()


def collector(rig):
    return next(c for c in rig.status()["collectors"] if c["name"] == "nvml")


def power_seen(rig):
    """GPUs whose power is in the newest frame."""
    lines = rig.raw("/metrics")[1].splitlines()
    found = [line for line in lines if line.startswith(("etio_gpu_power_watts{", "gpu_power_watts{"))]
    return sorted(line.split('gpu="')[1][0] for line in found)


def alert_state(rig, name):
    """Of the newest alert of that name."""
    incidents = rig.get("/api/v1/incidents")["incidents"]
    found = [a for incident in incidents for a in incident["alerts"] if a["name"] == name]
    return found[0]["state"] if found else ""


def report_of(rig, alert, gpu):
    """The newest report of an incident with this alert of this GPU."""
    for incident in rig.get("/api/v1/incidents")["incidents"]:
        if any(a["name"] == alert and a["labels"].get("gpu") == gpu for a in incident["alerts"]):
            heads = [h for h in rig.get("/api/v1/reports")["reports"] if h["incident_id"] == incident["id"]]
            return rig.get(f"/api/v1/reports/{heads[0]['id']}") if heads else None
    return None


def test_heat_and_a_lost_gpu_become_reports_that_name_the_gpu(story):
    gpus, rig = story(lambda g: [g.set(i, field__74=None, field__75=None, field__269=None, field__270=None,
                                       field__271=None) for i in range(4)])
    rigs.wait_for(lambda: power_seen(rig) == ["0", "1", "2", "3"], PATIENCE_S)
    gpus.set(2, nvmlDeviceGetCurrentClocksEventReasons=0x40 | 0x8, nvmlDeviceGetTemperature__0=92,
             nvmlDeviceGetClockInfo__1=900)
    report = rigs.wait_for(lambda: report_of(rig, "GpuThrottled", "2"), PATIENCE_S)
    assert report["findings"][0]["cause"] == "gpu_thermal_throttling", report["summary"]
    assert report["culprit"]["name"] == "GPU 2"
    assert "GPU 2" in report["title"]
    assert any("-i 2 " in s["apply"] for s in report["suggestions"])
    assert "GPUs: NVIDIA H100 80GB HBM3" in rig.text()
    gpus.set(3, nvmlDeviceGetFieldValues={"error": 15})
    report = rigs.wait_for(lambda: report_of(rig, "GpuLost", "3"), PATIENCE_S)
    assert any(f["cause"] == "gpu_lost" and f["entity"].startswith("gpu=3") for f in report["findings"])
    rigs.wait_for(lambda: power_seen(rig) == ["0", "1", "2"], PATIENCE_S)
    gpus.xid(0, 31)
    report = rigs.wait_for(lambda: report_of(rig, "GpuProgramXid", "0"), PATIENCE_S)
    assert any(f["cause"] in ("gpu_application_error", "gpu_lost") for f in report["findings"])


def test_calls_that_hang_hold_nothing_up_neither_at_the_start_nor_later(story):
    def hanging_start(gpus):
        gpus.system["nvmlInitWithFlags"] = "hang"
        gpus.write()

    gpus, rig = story(hanging_start)  # which waits for frames
    broken = rigs.wait_for(lambda: c if (c := collector(rig))["state"] == "failed" else None, PATIENCE_S)
    assert "nvmlInit" in broken["reason"]
    del gpus.system["nvmlInitWithFlags"]
    gpus.write()
    rigs.wait_for(lambda: power_seen(rig) == ["0", "1", "2", "3"], PATIENCE_S)
    gpus.set(1, nvmlDeviceGetPowerUsage="hang")
    broken = rigs.wait_for(lambda: c if (c := collector(rig))["state"] == "failed" else None, PATIENCE_S)
    assert "nvmlDeviceGetPowerUsage of GPU 1" in broken["reason"]
    rigs.wait_for(lambda: power_seen(rig) == [], PATIENCE_S)
    rigs.wait_for(lambda: alert_state(rig, "GpuUnresponsive") == "firing", PATIENCE_S)
    before = rig.status()["frames"]
    rigs.wait_for(lambda: rig.status()["frames"] >= before + 3, PATIENCE_S)  # frames go on
    assert rig.status()["ready"]
    gpus.set(1, nvmlDeviceGetPowerUsage=300_000)
    rigs.wait_for(lambda: power_seen(rig) == ["0", "1", "2", "3"], PATIENCE_S)
    rigs.wait_for(lambda: alert_state(rig, "GpuUnresponsive") == "resolved", PATIENCE_S)
    assert rig.stop() == 0


@needs_analyze
@pytest.mark.skipif(not list(Path("/usr/lib").glob("**/libseccomp.so.2")), reason="needs libseccomp")
def test_the_worker_lives_within_the_filter_of_the_unit():
    """Any other system call kills the process here."""
    with rigs.folder() as folder, nvml_double.machine(count=2) as gpus:
        rig = rigs.Rig(folder, CONFIG.format(root=rigs.FakeHost(folder).root))
        rig.state.mkdir()
        if os.geteuid() == 0:
            os.chown(rig.state, 65534, 65534)
        under = (sys.executable, "-c", UNDER_FILTER, ",".join(sorted(allowed_calls())))
        try:
            rig.start(user="nobody", under=under, **gpus.environment)
            rigs.wait_for(lambda: power_seen(rig) == ["0", "1"], PATIENCE_S)
            assert rig.stop() == 0
        finally:
            rig.close()
