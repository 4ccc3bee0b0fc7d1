"""What the daemon gives up and gives away when it starts as root, and what it tells systemd."""

import os
import socket
import stat
from pathlib import Path

import pytest

from etio.core.errors import EtioError
from etio.daemon import privileges
from etio.daemon.sdnotify import Notifier

# -- privileges -------------------------------------------------------------------------------------------------------


@pytest.mark.needs_root
def test_only_a_state_folder_is_given_away(tmp_path):
    owner = privileges.account("nobody")
    fresh = tmp_path / "fresh"
    privileges.give(fresh, owner)
    assert fresh.stat().st_uid == owner.pw_uid
    assert stat.S_IMODE(fresh.stat().st_mode) == 0o750
    ours = tmp_path / "ours"
    (ours / "state").mkdir(parents=True)
    for name in ("etio.duckdb", "d20261120.duckdb", "r20261120.duckdb.wal", "state/detectors"):
        (ours / name).write_text("x")
    privileges.give(ours, owner)
    assert {p.stat().st_uid for p in ours.rglob("*")} == {owner.pw_uid}
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("x")
    with pytest.raises(EtioError, match=r"thesis\.txt"):
        privileges.give(other, owner)
    assert other.stat().st_uid == (other / "thesis.txt").stat().st_uid == 0


@pytest.mark.needs_root
def test_no_link_is_followed(tmp_path):
    owner = privileges.account("nobody")
    secret = tmp_path / "secret"
    secret.write_text("x")
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / "etio.soft").symlink_to(secret)
    os.link(secret, folder / "etio.hard")
    os.mkfifo(folder / "etio.pipe")
    privileges.give(folder, owner)
    assert secret.stat().st_uid == 0
    assert folder.stat().st_uid == owner.pw_uid


def test_an_account_that_cannot_enter_is_told_where(tmp_path):
    tmp_path.chmod(0o755)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    program = closed / "program.py"
    program.write_text("")
    owner = privileges.account("nobody")
    assert privileges.readable_after_drop(owner, program).startswith("/")
    assert privileges.readable_after_drop(owner, Path("/usr/bin/env")) == ""
    with pytest.raises(EtioError, match="useradd"):
        _without_fallback("no-such-account")


def _without_fallback(name):
    original, privileges.FALLBACK_USER = privileges.FALLBACK_USER, "no-such-account-either"
    try:
        privileges.account(name)
    finally:
        privileges.FALLBACK_USER = original


# -- sd_notify --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("abstract", [False, True])
def test_a_message_to_systemd(tmp_path, monkeypatch, abstract):
    name = f"@etio-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name[1:] if abstract else name)
        sock.settimeout(2)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        monkeypatch.setenv("WATCHDOG_USEC", "30000000")
        notifier = Notifier()
        notifier.send("READY=1", "STATUS=x")
        assert sock.recv(100) == b"READY=1\nSTATUS=x"
        assert notifier.watchdog_s == 15.0
    notifier.send("WATCHDOG=1")  # systemd is gone: no harm
    notifier.send("WATCHDOG=1")


def test_without_systemd_nothing_is_sent(monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.setenv("WATCHDOG_USEC", "soon")
    notifier = Notifier()
    notifier.send("READY=1")
    assert notifier.watchdog_s == 0.0
