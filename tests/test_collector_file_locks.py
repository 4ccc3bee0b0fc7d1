"""Waits for file locks: parsed from what the kernel writes, told when they last, not for pools and standbys; live."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.file_locks import COLLECTOR, FileLocks, Held, parse_locks
from etio.core.errors import NoData
from etio.core.frame import NS

REAL = b"""1: POSIX  ADVISORY  WRITE 565 fe:00:2163715 0 EOF
14: FLOCK  ADVISORY  WRITE 2376 fe:00:2195483 0 EOF
14: -> FLOCK  ADVISORY  WRITE 2372 fe:00:2195483 0 EOF
14:  -> FLOCK  ADVISORY  WRITE 2374 fe:00:2195483 0 EOF
15: OFDLCK ADVISORY  READ -1 fe:00:2195484 0 1023
15: -> POSIX  ADVISORY  WRITE 2375 fe:00:2195484 0 EOF
"""


def test_who_waits_for_whom_is_read_from_a_real_file():
    assert parse_locks(REAL) == [Held("fe:00:2195483", "flock", 2376, (2372, 2374)),
                                 Held("fe:00:2195484", "ofdlck", 0, (2375,))]


@given(st.binary(max_size=400))
def test_any_bytes_are_read_without_an_error(data):
    for raw in (data, REAL[: len(data)] + data):
        for held in parse_locks(raw):
            assert held.waiters, "only locks that somebody waits for"
            assert held.holder >= 0 <= min(held.waiters)
            assert held.file.encode() in raw


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "proc").mkdir()
    put(tmp_path)
    return tmp_path


def put(root: Path, waiters: int = 0, holder: int = 100) -> None:
    lines = [f"3: FLOCK  ADVISORY  WRITE {holder} 08:01:77 0 EOF",
             *(f"3: -> FLOCK  ADVISORY  WRITE {200 + i} 08:01:77 0 EOF" for i in range(waiters))]
    (root / "proc" / "locks").write_text("".join(line + "\n" for line in lines))


def process(root: Path, pid: int, comm: str, ppid: int = 1, state: str = "S") -> None:
    (root / "proc" / str(pid)).mkdir(exist_ok=True)
    (root / "proc" / str(pid) / "stat").write_text(f"{pid} ({comm}) {state} {ppid} " + " ".join(["0"] * 48) + "\n")


def look(one: FileLocks, t: float) -> list[tuple[object, ...]]:
    return [(e.kind, e.entity, e.get("pid"), e.get("comm"), e.get("waiters"), e.get("first_comm"))
            for e in one.collect(int(t * NS)).events]


@pytest.fixture
def locks(root: Path) -> FileLocks:
    one = FileLocks(COLLECTOR.config())
    one.open(root)
    return one


def jobs(root: Path, count: int) -> None:
    put(root, count)
    for i in range(count):
        process(root, 200 + i, "flock", 300 + i)


def test_jobs_behind_one_that_hangs_are_told_once_and_the_end(root, locks):
    process(root, 100, "backup")
    jobs(root, 3)
    assert look(locks, 0) == look(locks, 15) == []
    assert look(locks, 20) == [("file_lock_pile", "lock=08:01:77", 100, "backup", 3, "flock")]
    assert look(locks, 25) == []
    put(root)
    assert look(locks, 30) == [("file_lock_free", "lock=08:01:77", None, None, None, None)]


def test_one_that_waits_for_a_stopped_holder_is_told_and_for_another_it_is_not(root, locks):
    process(root, 100, "backup", state="T")
    jobs(root, 1)
    assert look(locks, 0) == []
    assert [e[0] for e in look(locks, 5)] == ["file_lock_pile"]
    calm = FileLocks(COLLECTOR.config())
    calm.open(root)
    process(root, 100, "leader")
    assert [look(calm, t) for t in (0, 5, 500)] == [[], [], []]


def test_workers_of_one_pool_and_a_lock_that_goes_round_are_not_told(root, locks):
    for pid in (100, 200, 201, 202, 203):
        process(root, pid, "smtpd", 50)
    put(root, 4)
    assert [look(locks, t) for t in (0, 20, 60)] == [[], [], []]
    for t in range(105, 160, 5):
        process(root, t, "job", t)
        put(root, 4, holder=t)
        assert look(locks, t) == []


def test_processes_that_cannot_be_seen_are_told_by_number(root, locks):
    put(root, 3)
    look(locks, 0)
    assert look(locks, 21) == [("file_lock_pile", "lock=08:01:77", 100, "", 3, "")]


def test_no_file_is_no_data(tmp_path):
    with pytest.raises(NoData):
        FileLocks(COLLECTOR.config()).open(tmp_path)


def test_a_real_wait_behind_a_stopped_process_is_seen(tmp_path):
    path = tmp_path / "lock"
    path.touch()
    code = ("import fcntl, os; open('/proc/self/comm', 'w').write('waiter'); "  # one of another name: no pool
            f"fcntl.flock(os.open({str(path)!r}, os.O_RDWR), fcntl.LOCK_EX)")
    mine = os.open(path, os.O_RDWR)
    fcntl.flock(mine, fcntl.LOCK_EX)
    one = FileLocks(COLLECTOR.config(waiters=1, lasting_s=0))
    one.open(Path("/"))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as waiter:
        try:
            told, until = [], time.monotonic() + 30
            inode = str(path.stat().st_ino)
            while not told and time.monotonic() < until:
                told = [e for e in one.collect(time.time_ns()).events if e.entity.endswith(f":{inode}")]
                time.sleep(0.05)
            assert [(e.get("pid"), e.get("first_pid"), e.get("kind")) for e in told] == [
                (os.getpid(), waiter.pid, "flock")]
        finally:
            os.close(mine)
            waiter.send_signal(signal.SIGKILL)
    one.close()
