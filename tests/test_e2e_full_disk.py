"""The daemon's own volume runs full while it runs: it says so, stays alive, and tells everybody once there is room."""

import json

import pytest

from tests import daemon_rig as rigs

pytestmark = [pytest.mark.slow, pytest.mark.needs_root]
CONFIG = """
[daemon]
ebpf = "off"
[engine]
settle_s = 0.2
[store]
min_free_bytes = 4000000
batch_seconds = 0.5
compact = false
[rca.llm]
enabled = "off"
[[webhook.targets]]
url = "{hook}"
"""


def test_its_own_volume_runs_full():
    with rigs.folder() as folder, rigs.tmpfs(folder / "state", "24m") as mount:
        hooks = rigs.Receiver(folder).start()
        rig = rigs.Rig(folder, CONFIG.format(hook=hooks.url), settings="")
        try:
            rig.start()
            rigs.wait_for(lambda: str(mount) in json.dumps(rig.get("/api/v1/series?match=filesystem")), 20)
            frames = rig.status()["frames"]
            filler = rigs.fill(mount)
            rigs.wait_for(lambda: rig.status()["alerts_firing"] >= 1, 20)
            rigs.wait_for(lambda: rig.status()["frames"] > frames + 10, 30)
            assert rig.process.poll() is None
            assert rig.status()["ready"], "it sees, though it cannot write"
            assert rig.raw("/healthz")[0] == rig.raw("/readyz")[0] == rig.raw("/metrics")[0] == 200
            assert "Traceback" not in rig.text()
            code, body = rig.raw("/api/v1/incidents")
            assert code in (200, 503), body
            assert not rigs.etio("status", url=rig.url).returncode
            filler.unlink()
            rigs.wait_for(lambda: any(b["status"] == "firing" for b in hooks.bodies()), 60)
            incident = rigs.wait_for(lambda: rig.get("/api/v1/incidents")["incidents"], 30)[0]
            assert str(mount) in json.dumps(incident)
            rigs.wait_for(lambda: any(b["notification_reason"] == "report ready" for b in hooks.bodies()), 60)
            rigs.wait_for(lambda: rig.get("/api/v1/reports")["reports"], 30)
            assert rig.stop() == 0
            rig.start()
            assert "set aside" not in rig.text()
            samples = rig.query("SELECT count(*) FROM samples WHERE name = 'memory_total_bytes'")
            assert samples[0][0] > 0
            assert rig.get("/api/v1/reports")["reports"][0]["causes"][0] == "disk_full"
        finally:
            rig.close()
            hooks.stop()
