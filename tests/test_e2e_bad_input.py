"""Wrong configuration, taken ports, closed folders, full disks: one clear line with the remedy, exit status 2."""

import os
import re
import socket
from pathlib import Path

import pytest

from tests import daemon_rig as rigs

pytestmark = pytest.mark.slow

MISTAKES = """
colector = 1

[daemon]
tick_s = "fast"
tik_s = 2.0

[api]
port = 99999

[store]
raw_days = 0

[collector.disks]
nonsense = 1

[collector.diskz]
x = 1

[detector.robust_z]
warmup = -5

[engine]
mute = ["CpuSaturatd"]

[rca.llm]
enabled = "perhaps"

[[webhook.targets]]
url = "ftp://example.org"
"""
KEYS = ("colector", "daemon.tick_s", "daemon.tik_s", "api", "store", "collector.disks.nonsense", "collector.diskz",
        "detector.robust_z", "engine", "rca.llm.enabled", "webhook")


@pytest.fixture
def folder():
    with rigs.folder() as path:
        yield path


def refused(done) -> str:
    """The one line on stderr of a start that was refused."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if not line.startswith("INFO ")]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("etio: ")
    assert len(lines[0]) < 400
    return lines[0]


def run(folder: Path, *more: str, user=None, config: str = ""):
    toml = folder / "etio.toml"
    toml.write_text('[daemon]\nebpf = "off"\n' + rigs.QUIET + config)
    return rigs.etio("run", "--config", str(toml), "--state", str(folder / "state"), *more, user=user)


@pytest.mark.parametrize("command", ["run", "check-config"])
def test_every_mistake_is_listed_with_file_and_key(folder, command):
    toml = folder / "etio.toml"
    toml.write_text(MISTAKES)
    done = rigs.etio(command, "--config", str(toml))
    assert done.returncode == 2
    listed = [line.strip() for line in done.stderr.splitlines() if line.startswith("  ")]
    assert all(line.startswith(f"{toml}: ") for line in listed), done.stderr
    for key in KEYS:
        assert any(line.startswith(f"{toml}: {key}") for line in listed), (key, done.stderr)
    assert f"has {len(listed)} mistakes" in done.stderr
    assert "did you mean 'tick_s'" in done.stderr
    assert "CpuSaturated" in done.stderr
    assert not (folder / "state").exists()


@pytest.mark.parametrize(("text", "word"), [
    ("[daemon\n", "no TOML"), (b"\xff\xfe\x00", "no TOML"), ("daemon = 5\n", "daemon"),
    ("[daemon]\nperiods = 3\n", "periods"), ('[daemon]\ndisabled = ["cpuu"]\n', "cpuu"),
    ("[daemon]\ntick_s = 0.0\n", "tick_s"), ("[daemon]\ntick_s = nan\n", "tick_s"),
    ("[daemon]\nmemory_minutes = -1\n", "memory_minutes"), ("[daemon]\nmax_series = 0\n", "max_series"),
    ("[daemon.periods]\ncpu = -1.0\n", "cpu"), ('[api]\nhost = "0.0.0.0"\n', "token"),
    ('[store]\ndirectory = "relative"\n', "absolute"),
])
def test_one_mistake(folder, text, word):
    toml = folder / "etio.toml"
    toml.write_bytes(text if isinstance(text, bytes) else text.encode())
    done = rigs.etio("check-config", "--config", str(toml))
    assert done.returncode == 2, done.stdout
    assert word in done.stderr


def test_a_configuration_that_is_not_there(folder):
    done = rigs.etio("check-config", "--config", str(folder / "none.toml"))
    assert done.returncode == 2
    assert "none.toml: cannot be read: No such file or directory" in done.stderr
    done = rigs.etio("check-config", "--config", str(folder))
    assert done.returncode == 2
    assert "Is a directory" in done.stderr


def test_a_port_that_is_taken(folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = refused(run(folder, "--port", str(port)))
    assert f"port {port}" in line
    assert "[api]" in line
    assert not list((folder / "state").glob("*.wal")), "the store was closed in order"


def test_a_state_folder_that_another_daemon_holds():
    with rigs.daemon('[daemon]\nebpf = "off"\n') as rig:
        rig.start()
        done = rigs.etio("run", "--config", str(rig.toml), "--state", str(rig.state), "--port", str(rigs.free_port()))
        line = refused(done)
        assert f"process {rig.pid}" in line
        assert "stop it" in line
        assert rig.status()["ready"], "the first one does not mind"


@pytest.mark.needs_root
def test_a_state_folder_without_permission(folder):
    (folder / "state").mkdir(mode=0o755)
    line = refused(run(folder, user="nobody"))
    assert str(folder / "state") in line
    assert "permission" in line


@pytest.mark.needs_root
def test_a_full_disk_at_the_start(folder):
    with rigs.tmpfs(folder / "state", "256k") as mount:
        rigs.fill(mount)
        os.chown(mount / "filler", 65534, 65534)
        (mount / "filler").rename(mount / "etio.filler")
        line = refused(run(folder))
    assert "full" in line
    assert "free some space" in line


@pytest.mark.needs_root
def test_a_folder_with_other_things_in_it_is_not_taken_over(folder):
    state = folder / "state"
    (state / "precious").mkdir(parents=True)
    (state / "precious" / "file").write_text("mine")
    line = refused(run(folder))
    assert "precious" in line
    assert (state / "precious" / "file").stat().st_uid == 0


@pytest.mark.needs_root
def test_links_in_the_state_folder_give_nothing_away(folder):
    """Who runs as the daemon's account could put them there and wait for the next start as root."""
    secret = folder / "secret"
    secret.write_text("root's")
    state = folder / "state"
    state.mkdir()
    os.chown(state, 65534, 65534)
    (state / "etio.link").symlink_to(secret)
    os.link(secret, state / "etio.hard")
    (state / "tmp").symlink_to(folder)
    rigs.etio("run", "--config", str(folder / "none.toml"), "--state", str(state))
    run(folder, "--port", "1", config='[api]\nhost = "192.0.2.1"\ntoken = "x"\n')  # ends at once: no such address
    assert secret.stat().st_uid == 0
    assert folder.stat().st_uid == 0


@pytest.mark.parametrize("state", ["file/below", "file"])
def test_a_state_folder_that_can_be_none(folder, state):
    (folder / "file").write_text("")
    toml = folder / "etio.toml"
    toml.write_text('[daemon]\nebpf = "off"\n' + rigs.QUIET)
    line = refused(rigs.etio("run", "--config", str(toml), "--state", str(folder / state)))
    assert "store.directory" in line


def test_an_account_that_does_not_exist_falls_back_and_bad_numbers_are_refused(folder):
    done = run(folder, "--port", "70000")
    assert done.returncode == 2
    assert re.search(r"port: 70000", done.stderr)
    done = rigs.etio("run", "--port", "many")
    assert done.returncode == 2
    assert "invalid int value" in done.stderr


def test_no_warden_where_the_configuration_names_one_is_tier_2_with_the_reason():
    with rigs.daemon('[daemon]\nwarden_socket = "/nonexistent/warden.sock"\n') as rig:
        rig.start()
        status = rig.status()
        assert status["tier"] == "T2"
        assert "/nonexistent/warden.sock" in status["tier_reason"]
        assert "systemctl start etio-warden" in status["tier_reason"]
