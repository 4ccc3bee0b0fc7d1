"""Start and end: privileges, tiers, systemd's protocol, and what a blind daemon says."""

import contextlib
import itertools
import os
import shutil
import signal
import socket
import time
from pathlib import Path

import pytest

from tests import daemon_rig as rigs

pytestmark = pytest.mark.slow

OFF = '[daemon]\nebpf = "off"\n'
GOLDEN = Path(__file__).with_name("golden")
NOISE = ("Traceback", "ERROR", "CRITICAL", "Exception ignored", "leaked", "Fatal")


def field(pid: int, name: str) -> str:
    text = Path(f"/proc/{pid}/status").read_text()
    return next(line.split(None, 1)[1] for line in text.splitlines() if line.startswith(f"{name}:"))


def children(pid: int) -> dict[int, str]:
    """Pid to command line of every child."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]) not in "ZX"
    return False


def assert_powerless(pid: int) -> None:
    assert set(field(pid, "Uid").split()) & {"0"} == set()
    assert "0" not in field(pid, "Gid").split()
    assert int(field(pid, "CapEff"), 16) == int(field(pid, "CapPrm"), 16) == int(field(pid, "CapInh"), 16) == 0
    assert field(pid, "NoNewPrivs").strip() == "1"


@pytest.mark.needs_bpf
def test_started_as_root_it_loads_programs_and_keeps_no_privilege():
    with rigs.daemon() as rig:
        rig.start()
        rigs.wait_for(lambda: rig.status()["tier_reason"] != "loading", 80, 0.2)
        status = rig.status()
        assert (status["tier"], status["tier_reason"]) == ("T1", "")
        assert_powerless(rig.pid)
        mine = children(rig.pid)
        (warden,) = (pid for pid, line in mine.items() if "warden.py" in line)
        assert not any("loader.py" in line for line in (*mine.values(), *children(warden).values()))
        assert field(warden, "Uid").split()[0] == "0"
        assert field(warden, "NoNewPrivs").strip() == "1"
        full = (1 << (int(Path("/proc/sys/kernel/cap_last_cap").read_text()) + 1)) - 1
        assert int(field(warden, "CapEff"), 16) != full, "the warden keeps only what it needs"
        rigs.wait_for(lambda: any(c["name"] == "ebpf" and c["state"] == "on" and c["readings"] > 2
                                  for c in rig.status()["collectors"]), 20)
        keys = {s["name"] for s in rig.get("/api/v1/series")["series"]}
        assert {"sched_run_delay_p99_seconds", "process_forks_per_second", "net_retransmits_per_second"} <= keys
        assert "tier T1" in rig.text()
        assert rig.stop() == 0
        rigs.wait_for(lambda: not alive(warden), 10)
        assert not [sign for sign in NOISE if sign in rig.text()], rig.text()


@pytest.mark.needs_root
def test_started_as_an_ordinary_user_it_is_tier_2_and_still_delivers():
    with rigs.daemon() as rig:
        rig.state.mkdir()
        os.chown(rig.state, 65534, 65534)
        rig.start(user="nobody")
        status = rig.status()
        assert status["tier"] == "T2"
        assert "not started as root" in status["tier_reason"]
        assert "scripts/install" in status["tier_reason"]
        rigs.wait_for(lambda: rig.status()["frames"] >= 3)
        assert sum(c["state"] == "on" for c in rig.status()["collectors"]) > 5
        assert rig.raw("/readyz")[0] == 200
        rows = rigs.wait_for(lambda: rig.query("SELECT count(*) FROM samples WHERE name = 'memory_total_bytes'"))
        assert rows[0][0] >= 1
        doctor = rigs.etio("doctor", url=rig.url).stdout
        assert "not started as root" in doctor
        assert rig.stop() == 0


@pytest.mark.needs_root
def test_switched_off_by_the_configuration_root_is_given_up_all_the_same():
    with rigs.daemon(OFF) as rig:
        rig.start()
        assert_powerless(rig.pid)
        assert children(rig.pid) == {}
        assert rig.status()["tier_reason"].startswith("switched off")
        owner = rig.state.stat().st_uid
        assert owner == int(field(rig.pid, "Uid").split()[0]) != 0


@pytest.mark.needs_bpf
def test_ended_while_programs_are_being_compiled_nothing_stays_behind():
    with rigs.daemon() as rig:
        rig.start(ready=False)
        found = rigs.wait_for(lambda: [p for p, line in children(rig.pid).items() if "warden.py" in line], 20)
        loaders = rigs.wait_for(lambda: [p for p, line in children(found[0]).items() if "loader.py" in line], 20)
        assert rig.stop() == 0
        rigs.wait_for(lambda: not any(alive(p) for p in (*found, *loaders)), 40)
        assert not [sign for sign in NOISE if sign in rig.text()], rig.text()


class Systemd:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, at: Path) -> None:
        self.path = at / "notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        self.path.chmod(0o777)
        self.socket.settimeout(0.05)
        self.heard: list[tuple[float, str]] = []

    def listen(self) -> list[str]:
        with contextlib.suppress(TimeoutError):
            while True:
                self.heard.append((time.monotonic(), self.socket.recv(4096).decode()))
        return [text for _, text in self.heard]

    def count(self, line: str) -> int:
        return sum(line in text.splitlines() for text in self.listen())


def test_systemd_hears_ready_watchdog_and_stopping():
    with rigs.daemon(OFF) as rig:
        systemd = Systemd(rig.folder)
        with contextlib.closing(systemd.socket):
            rig.start(ready=False, NOTIFY_SOCKET=str(systemd.path), WATCHDOG_USEC="10000000")
            rigs.wait_for(lambda: systemd.count("READY=1"), 30)
            assert f"STATUS=listening on {rig.url}" in "\n".join(systemd.listen())
            rigs.wait_for(lambda: systemd.count("WATCHDOG=1") >= 3, 40)
            moments = [at for at, text in systemd.heard if "WATCHDOG=1" in text]
            assert max(b - a for a, b in itertools.pairwise(moments)) < 10.0, "systemd would have killed it"
            assert moments[-1] - moments[0] > 1.0, "no more often than it must"
            assert rig.stop() == 0
            assert systemd.count("READY=1") == systemd.count("STOPPING=1") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(number):
    with rigs.daemon(OFF) as rig:
        rig.start()
        rigs.wait_for(lambda: rig.status()["frames"] >= 2)
        rig.process.send_signal(number)
        assert rig.process.wait(20) == 0
        assert not list(rig.state.glob("*.wal"))
        assert not list((rig.state / "tmp").glob("*"))
        assert not [sign for sign in NOISE if sign in rig.text()], rig.text()


def test_a_signal_during_the_start_ends_it_too():
    with rigs.daemon(OFF) as rig:
        rig.start(ready=False)
        rigs.wait_for(lambda: any(rig.state.glob("etio.duckdb*")), 20, 0.005)
        assert rig.stop() == 0
        assert not [sign for sign in NOISE if sign in rig.text()], rig.text()
        rig.start()
        assert "set aside" not in rig.text()


def test_learned_baselines_survive_a_restart():
    config = '[daemon]\nebpf = "off"\ntick_s = 0.2\n[daemon.periods]\ncpu = 0.2\nmemory = 0.2\nvmstat = 0.2\n'
    with rigs.daemon(config + "[detector.robust_z]\nwarmup = 10\nsettled = 20\n") as rig:
        rig.start()
        assert rig.status()["warm_ratio"] < 0.9
        rigs.wait_for(lambda: rig.status()["warm_ratio"] > 0.9, 60)
        assert rig.stop() == 0
        rig.start(ready=False)
        rigs.wait_for(lambda: _frames(rig) >= 1, 60, 0.02)
        status = rig.status()
        assert status["warm_ratio"] > 0.9, status["frames"]
        assert not status["warming"]
        assert rig.stop() == 0
        (rig.state / "state" / "detectors").write_bytes(b"damaged")
        rig.start()
        assert rig.text().count("set aside") == 1
        assert rig.status()["warm_ratio"] < 0.9


def _frames(rig: rigs.Rig) -> int:
    with contextlib.suppress(OSError):
        return int(rig.status()["frames"])
    return 0


# -- what it sees ---------------------------------------------------------------------------------------------------


def root_of(folder: Path, host: str) -> Path:
    root = folder / "root"
    shutil.copytree(GOLDEN / host, root, symlinks=True, ignore_dangling_symlinks=True)
    os.system(f"chmod -R a+rX {root}")
    return root


def test_a_blind_daemon_says_so_and_stays_alive():
    """A root without anything to read: every collector fails or has no data."""
    with rigs.folder() as folder:
        (folder / "root" / "proc").mkdir(parents=True)
        rig = rigs.Rig(folder, f'{OFF}root = "{folder / "root"}"\n')
        try:
            rig.start(ready=False)
            rigs.wait_for(lambda: _frames(rig) > 2, 40)
            code, body = rig.raw("/readyz")
            assert code == 503, body
            assert "no collector delivers" in body
            assert rig.raw("/healthz")[0] == 200
            assert rig.raw("/-/ready")[0] == 503
            assert '"degraded"' in rig.raw("/healthz")[1]
            assert rigs.etio("status", url=rig.url).stdout.count("blind") == 1
            code, metrics = rig.raw("/metrics")
            assert code == 200
            assert "etio_ready 0" in metrics
            assert rig.stop() == 0
        finally:
            rig.close()


def test_a_stopped_sampler_is_told_as_blindness():
    """SIGSTOP and SIGCONT: what was missed is missed, and it goes on."""
    with rigs.daemon(OFF) as rig:
        rig.start()
        began, before = time.monotonic(), rig.status()["frames"]
        os.kill(rig.pid, signal.SIGSTOP)
        time.sleep(5.5)
        os.kill(rig.pid, signal.SIGCONT)
        rigs.wait_for(lambda: rig.raw("/readyz")[0] == 200, 30)
        rigs.wait_for(lambda: rig.status()["frames"] > before + 2, 30)
        ran_s = time.monotonic() - began - 5.5
        assert rig.status()["frames"] - before < ran_s + 4, "missed ticks are not made up"


@pytest.mark.parametrize("host", ["debian10-4.19-cgroup1", "odd"])
def test_a_damaged_host_is_said_once_and_hurts_nobody_else(host):
    """A recorded host whose files are then cut, emptied, made odd or taken away."""
    with rigs.folder() as folder:
        root = root_of(folder, host)
        proc = root / "proc"
        damage = {"vmstat": b"", "meminfo": b"MemTotal: lots\n", "stat": b"cpu  1 2\ncpu0 x\n",
                  "diskstats": b"\xff\xfe\x00 nonsense"}
        for name, content in damage.items():
            if (proc / name).exists():
                (proc / name).unlink()
                (proc / name).write_bytes(content)
        if (proc / "pressure").exists():
            shutil.rmtree(proc / "pressure")
        rig = rigs.Rig(folder, f'{OFF}root = "{root}"\n')
        try:
            rig.start()
            rigs.wait_for(lambda: rig.status()["frames"] >= 5, 30)
            status = rig.status()
            states = {c["name"]: c for c in status["collectors"]}
            assert sum(c["state"] == "on" for c in status["collectors"]) >= 3, states
            for name, file in (("memory", "meminfo"), ("vmstat", "vmstat"), ("cpu", "stat"), ("disks", "diskstats")):
                told = [line for line in rig.text().splitlines() if f"{proc}/{file}:" in line and "collector" in line]
                assert len(told) == 1, (name, told, states[name])
                if name != "cpu":  # which goes on with /proc/loadavg
                    assert states[name]["state"] in ("failed", "nodata")
                    assert states[name]["reason"]
            assert rig.raw("/healthz")[0] == 200
            assert rig.raw("/readyz")[0] == 200
            assert "Traceback" not in rig.text()
            doctor = rigs.etio("doctor", url=rig.url)
            assert states["memory"]["reason"].split(":")[0] in doctor.stdout.replace("\n", "")
            assert rig.stop() == 0
        finally:
            rig.close()
