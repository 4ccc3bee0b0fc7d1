"""The units: understood by systemd, closed, in step with the install script, and enough for the daemon to run."""

import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import daemon_rig as rigs

ROOT = Path(__file__).parents[1]
UNITS = ROOT / "deploy" / "systemd"
needs_analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
EXPOSURE = {"etio.service": 3.0, "etio-warden.service": 6.0}
"""Highest allowed, as systemd-analyze security counts it: 0 nothing, 10 everything."""

UNDER_FILTER = """
import ctypes, os, sys
names, command = sys.argv[1].split(","), sys.argv[2:]
ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)
library = ctypes.CDLL("libseccomp.so.2")
library.seccomp_init.restype = ctypes.c_void_p
context = ctypes.c_void_p(library.seccomp_init(0x80000000))  # SCMP_ACT_KILL_PROCESS
for name in names:
    number = library.seccomp_syscall_resolve_name(name.encode())
    if number >= 0:
        assert library.seccomp_rule_add(context, 0x7FFF0000, number, 0) == 0
assert library.seccomp_load(context) == 0
os.execv(command[0], command)
"""


def unit(name: str) -> dict[str, dict[str, str]]:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str
    parser.read_string((UNITS / name).read_text())
    return {section: dict(parser[section]) for section in parser.sections()}


@pytest.fixture
def copies(tmp_path):
    """The units with programs that exist here, and nothing else changed."""
    for name in EXPOSURE:
        text = re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", (UNITS / name).read_text())
        (tmp_path / name).write_text(re.sub(r"(?m)^Documentation=.*", "Documentation=man:proc(5)", text))
    return tmp_path


@needs_analyze
def test_systemd_understands_the_units(copies):
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *map(str, sorted(copies.iterdir()))],
                          capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip(), done.stdout.strip()) == (0, "", "")


@needs_analyze
@pytest.mark.parametrize("name", EXPOSURE)
def test_the_units_are_closed(copies, name):
    done = subprocess.run(["systemd-analyze", "security", "--offline=yes", "--no-pager", str(copies / name)],
                          capture_output=True, text=True, check=False)
    found = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert found, done.stderr
    print(f"{name}: exposure {found[1]}")
    assert float(found[1]) <= EXPOSURE[name]


def test_the_daemon_has_no_capability_and_the_warden_no_network():
    daemon, warden = unit("etio.service")["Service"], unit("etio-warden.service")["Service"]
    assert daemon["CapabilityBoundingSet"] == daemon["AmbientCapabilities"] == ""
    assert (daemon["User"], daemon["NoNewPrivileges"], daemon["Type"]) == ("etio", "yes", "notify")
    assert int(daemon["WatchdogSec"]) >= 10
    assert {"CPUQuota", "MemoryMax", "TasksMax"} <= set(daemon)
    assert (warden["PrivateNetwork"], warden["RestrictAddressFamilies"]) == ("yes", "AF_UNIX")
    assert "CAP_SYS_MODULE" not in warden["CapabilityBoundingSet"]


def test_the_paths_agree_with_the_install_script_and_with_each_other():
    script = (ROOT / "scripts" / "install").read_text()
    assert "prefix=/opt/etio\n" in script
    assert unit("etio.service")["Service"]["ExecStart"].startswith("/opt/etio/venv/bin/etio run --config /etc/etio/")
    start = unit("etio-warden.service")["Service"]["ExecStart"]
    assert start.startswith("/usr/bin/python3 -I /opt/etio/ebpf/warden.py --listen ")
    assert (ROOT / "collector" / "ebpf" / "warden.py").exists()
    assert 'ln -sfn "$site/collector/ebpf" "$prefix/ebpf"' in script
    socket = start.split("--listen ")[1].split()[0]
    assert f'warden_socket = "{socket}"' in (UNITS / "etio.toml").read_text()
    assert socket.startswith(f"/run/{unit('etio-warden.service')['Service']['RuntimeDirectory']}/")
    for name in ("etio.service", "etio-warden.service", "etio.sysusers", "etio.tmpfiles", "etio.toml"):
        assert f"deploy/systemd/{name}" in script


@pytest.mark.slow
def test_the_default_configuration_is_good():
    done = rigs.etio("check-config", "--config", str(UNITS / "etio.toml"))
    assert (done.returncode, done.stderr) == (0, "")
    text = re.sub(r"(?m)^# (\[|url|endpoint)", r"\1", (UNITS / "etio.toml").read_text())
    with rigs.folder() as folder:
        (folder / "all.toml").write_text(text)  # with everything that is only suggested
        done = rigs.etio("check-config", "--config", str(folder / "all.toml"))
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.needs_root
@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="needs systemd-sysusers")
def test_account_and_folders_can_be_made(tmp_path):
    etc = tmp_path / "etc"
    etc.mkdir()
    for name in ("passwd", "group"):
        (etc / name).write_text("root:x:0:0:root:/root:/bin/sh\n" if name == "passwd" else "root:x:0:\n")
    subprocess.run(["systemd-sysusers", f"--root={tmp_path}", str(UNITS / "etio.sysusers")], check=True,
                   capture_output=True)
    assert re.search(r"(?m)^etio:x:\d+:\d+:etio daemon:/var/lib/etio:\S*nologin$", (etc / "passwd").read_text())
    done = subprocess.run(["systemd-tmpfiles", f"--root={tmp_path}", "--create", str(UNITS / "etio.tmpfiles")],
                          check=True, capture_output=True, text=True)
    assert done.stderr == ""
    assert (tmp_path / "var/lib/etio").stat().st_mode & 0o777 == 0o750


def allowed_calls() -> set[str]:
    """The system calls of the unit's filter, sets resolved."""
    text = subprocess.run(["systemd-analyze", "syscall-filter", "--no-pager"], capture_output=True, text=True,
                          check=True).stdout
    sets: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("@"):
            current = sets.setdefault(line.strip(), [])
        elif line.startswith("    ") and not line.strip().startswith("#"):
            current.append(line.strip())
    wanted, found = unit("etio.service")["Service"]["SystemCallFilter"].split(), set()
    while wanted:
        one = wanted.pop()
        if one.startswith("@"):
            wanted += sets[one]
        else:
            found.add(one)
    return found


@pytest.mark.slow
@needs_analyze
@pytest.mark.skipif(not list(Path("/usr/lib").glob("**/libseccomp.so.2")), reason="needs libseccomp")
def test_the_daemon_and_its_worker_live_within_the_filter_of_the_unit():
    """Any other system call kills the process here: stricter than the unit, which refuses it."""
    with rigs.folder() as folder:
        host = rigs.FakeHost(folder)
        rig = rigs.Rig(folder, f'[daemon]\nebpf = "off"\nroot = "{host.root}"\ntick_s = 0.5\n')
        rig.state.mkdir()
        if os.geteuid() == 0:
            os.chown(rig.state, 65534, 65534)
        try:
            rig.start(user="nobody", under=(sys.executable, "-c", UNDER_FILTER, ",".join(sorted(allowed_calls()))))
            host.exhaust()
            rigs.wait_for(lambda: rig.get("/api/v1/reports")["reports"], 30)
            assert rig.query("SELECT count(*) > 0 FROM samples") == [[True]]
            assert rig.raw("/")[0] == rig.raw("/metrics")[0] == 200
            assert rig.stop() == 0
        finally:
            rig.close()


@pytest.mark.slow
@pytest.mark.needs_bpf
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv")
def test_a_warden_with_the_capabilities_of_its_unit_gives_tier_1_to_an_ordinary_user():
    """As systemd runs the two: the daemon never was root, the warden waits for it and then for the next one."""
    service = unit("etio-warden.service")["Service"]
    kept = ",".join("+" + name.removeprefix("CAP_").lower() for name in service["CapabilityBoundingSet"].split())
    with rigs.folder() as folder:
        (folder / "run").mkdir()
        socket = folder / "run" / "warden.sock"
        rig = rigs.Rig(folder, f'[daemon]\nwarden_socket = "{socket}"\n')
        rig.state.mkdir()
        os.chown(rig.state, 65534, 65534)
        program = str(rigs.sources() / "collector/ebpf/warden.py")
        command = ["unshare", "--net", "setpriv", "--no-new-privs", f"--bounding-set=-all,{kept}",
                   "/usr/bin/python3", "-I", program, "--listen", str(socket), "--user", "nobody"]
        with (folder / "warden.log").open("wb") as log:
            warden = subprocess.Popen(command, stdout=log, stderr=log, umask=0o077)
        try:
            for _ in range(2):
                rig.start(user="nobody")
                rigs.wait_for(lambda: rig.status()["tier_reason"] != "loading", 80, 0.2)
                assert rig.status()["tier"] == "T1", rig.status()["tier_reason"] + (folder / "warden.log").read_text()
                rigs.wait_for(lambda: {c["name"]: c for c in rig.status()["collectors"]}["ebpf"]["readings"] > 1)
                assert rig.stop() == 0
                assert warden.poll() is None
            assert "Traceback" not in (folder / "warden.log").read_text()
        finally:
            rig.close()
            warden.terminate()
            warden.wait()
