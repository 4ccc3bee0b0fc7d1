"""A benchmark that is told to end undoes its fault, ends what it started and says what it has so far."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import signals
from bench.daemon import children
from bench.signals import held, whole

MARK = "ETIO_TEST_RUN"
ENTRY = """
import signal, time
from bench.signals import entry, held
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # what nohup starts ignores it
def main():
    print("up", flush=True)
    try:
        time.sleep(60)
    finally:
        with held():
            time.sleep(0.2)
            raise OSError("undoing failed")
entry(main)
"""


@pytest.fixture
def ending(monkeypatch: pytest.MonkeyPatch) -> signals._Ending:
    """Signals as if none had come yet."""
    fresh = signals._Ending()
    monkeypatch.setattr(signals, "_ending", fresh)
    return fresh


def marked(value: str) -> set[int]:
    """Processes that were started with our mark in their environment, those of other sessions included."""
    found = set()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and f"{MARK}={value}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.add(int(entry.name))
    return found


@pytest.mark.parametrize("number", signals.SIGNALS)
def test_a_signal_ends_a_benchmark_with_its_number_whatever_undoing_meets(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", ENTRY], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert said.count(b"undoing what was done") == 1


def test_a_fault_is_caused_and_undone_in_full_when_a_signal_comes_in_between(ending: signals._Ending) -> None:
    done = []

    @contextlib.contextmanager
    def fault() -> Iterator[None]:
        done.append("begun")
        ending.take(signal.SIGTERM, None)
        done.append("caused")
        try:
            yield
        finally:
            ending.take(signal.SIGINT, None)
            done.append("undone")

    with pytest.raises(SystemExit) as told, whole(fault()):
        done.append("measured")
    assert (told.value.code, done) == (128 + signal.SIGTERM, ["begun", "caused", "undone"])


def test_without_a_signal_nothing_is_raised_and_errors_of_undoing_are_told(ending: signals._Ending) -> None:
    with held(), held():
        assert ending.held == 2
    with pytest.raises(OSError, match="no such device"), held():
        raise OSError("no such device")
    assert (ending.held, ending.came) == (0, 0)


@pytest.mark.slow
def test_a_drill_that_is_told_to_end_leaves_nothing_behind(tmp_path: Path) -> None:
    value, saved, log = f"{os.getpid()}-{time.monotonic_ns()}", tmp_path / "drills.json", tmp_path / "log"
    command = [sys.executable, "-m", "bench.drills", "--only", "zombie_parent", "--warm", "0", "--json", str(saved)]
    with log.open("wb") as out, subprocess.Popen(command, env={**os.environ, MARK: value}, stdout=out, stderr=out,
                                                 start_new_session=True) as process:
        until = time.monotonic() + 240
        while process.poll() is None and time.monotonic() < until and not _faults(marked(value)):
            time.sleep(0.1)
        assert _faults(marked(value)), log.read_text()
        places = [word for pid in marked(value) for word in _words(pid) if word.endswith(("/state", "/jobrunner"))]
        started = {pid: _born(pid) for pid in children(process.pid)}  # the warden as well, which has no mark
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM, log.read_text()
    assert marked(value) == set()
    assert len(started) > 1
    while left := [_words(pid) for pid, born in started.items() if born and _born(pid) == born]:
        assert time.monotonic() < until + 60, left  # the warden sees by itself that the daemon has gone
        time.sleep(0.05)
    assert len(places) > 1
    assert not [place for place in places if os.path.lexists(place)]
    assert json.loads(saved.read_text())["cases"] == []
    assert "control_alerts: 0" in log.read_text()


def _words(pid: int) -> list[str]:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return []


def _born(pid: int) -> str:
    """When a process was started, in the kernel's ticks; "" where there is none."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return ""


def _faults(pids: set[int]) -> set[int]:
    """Those that are the drill's fault, and no part of etio."""
    return {pid for pid in pids if any(word.endswith("/jobrunner") for word in _words(pid)[:1])}
