"""A real daemon beside a systemd that counts restarts and a drive that fails: alerts, and reports that name them.

The bus and the warden are doubles with real bytes on real sockets; tests/test_vm.py does the same with the real ones.
"""

import contextlib
import json
import socket
import threading
from pathlib import Path

import pytest

from tests import daemon_rig as rigs
from tests.bus_double import FakeBus

pytestmark = pytest.mark.slow
LOG = (Path(__file__).parent / "golden/nvme-from-documentation/dying.hex").read_text().replace("\n", "")
CONFIG = """
[daemon]
root = "{root}"
warden_socket = "{warden}"
periods = {{ nvme = 1.0, units = 1.0 }}
[engine]
group_s = 0.1
"""


class FakeWarden:
    """A warden without bcc, on a host with one drive."""

    def __init__(self, at: Path) -> None:
        self.path = at / "warden.sock"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(self.path))
        self._listener.listen(1)
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        answers = {"ping": {"pid": 1, "refused": 0}, "nvme": {"nvme": [["nvme0", LOG, ""]]}}
        with contextlib.suppress(OSError):
            channel, _ = self._listener.accept()
            with channel:
                while data := channel.recv(4096):
                    do = json.loads(data)["do"]
                    channel.send(json.dumps(answers.get(do, {"error": f"no {do} here"})).encode())


@pytest.fixture(scope="module")
def seen():
    """What a daemon found within its first moments on such a host."""
    with rigs.folder() as folder:
        host, warden = rigs.FakeHost(folder), FakeWarden(folder)
        drive = host.root / "sys/class/nvme/nvme0"
        drive.mkdir(parents=True)
        (drive / "model").write_text("Example 3.8T\n")
        worker = {"name": "worker.service", "active": "active", "sub": "running", "NRestarts": 0, "ExecMainCode": 0,
                  "path": "/org/freedesktop/systemd1/unit/worker", "Result": "success", "ExecMainStatus": 0}
        backup = worker | {"name": "backup.service", "path": "/org/freedesktop/systemd1/unit/backup"}
        bus = FakeBus(host.root, [worker, backup])
        with rigs.daemon(CONFIG.format(root=host.root, warden=warden.path)) as rig:
            rig.start()
            rigs.wait_for(lambda: _state(rig, "units") == "on" and len(bus.calls) > 3, 60)
            drive_told = rigs.wait_for(lambda: _report(rig, "NvmeFailing"), 90)
            worker |= {"active": "activating", "sub": "auto-restart", "NRestarts": 6, "Result": "exit-code",
                       "ExecMainCode": 1, "ExecMainStatus": 3}
            loop_told = rigs.wait_for(lambda: _report(rig, "CrashLoop"), 90)
            backup |= {"active": "failed", "sub": "failed", "Result": "timeout"}
            unit_told = rigs.wait_for(lambda: _report(rig, "UnitFailed"), 90)
            doctor = json.loads(rigs.etio("doctor", "--json", url=rig.url).stdout)
            yield {"drive": drive_told, "loop": loop_told, "unit": unit_told, "metrics": rig.raw("/metrics")[1],
                   "doctor": doctor}
        bus.close()
        warden.close()


def _state(rig, name):
    return next(c["state"] for c in rig.status()["collectors"] if c["name"] == name)


def _report(rig, alert):
    """The text of the report of the incident in which this alert fired."""
    ours = {i["id"] for i in rig.get("/api/v1/incidents")["incidents"] if alert in [a["name"] for a in i["alerts"]]}
    found = [r["id"] for r in rig.get("/api/v1/reports")["reports"] if r["incident_id"] in ours]
    return json.dumps(rig.get(f"/api/v1/reports/{found[0]}"), ensure_ascii=False) if found else ""


def test_the_report_tells_restarts_as_systemd_counts_them(seen):
    assert "worker.service ended and was started again by systemd 6 times: " in seen["loop"]
    assert "it exited with status 3 (Result=exit-code)" in seen["loop"]
    assert "backup.service failed: it did not start or stop in time (Result=timeout)" in seen["unit"]


def test_the_report_names_the_drive_and_what_it_has_lived_through(seen):
    assert "It is the drive nvme0 (Example 3.8T; powered for 1,825 days" in seen["drive"]
    assert "Drive nvme0 takes no writes any more: replace it" in seen["drive"]


def test_series_of_both_are_there(seen):
    lines = seen["metrics"].splitlines()
    assert 'etio_unit_restarts{unit="worker.service"} 6' in lines
    assert "etio_units_failed 1" in lines
    assert any(line.startswith('etio_nvme_wear_ratio{device="nvme0"} 1.0') for line in lines)


def test_doctor_lists_both(seen):
    state = {row["part"]: row["state"] for row in seen["doctor"]}
    assert state["collector units"] == state["collector nvme"] == "good"
