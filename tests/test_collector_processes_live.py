"""Processes of this host: what the reader says of those that a test starts."""

import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from collector.processes import IO_MAX, ProcessReader, zombies_by_parent
from tests.daemon_rig import wait_for

# --- this host --------------------------------------------------------------------------------------------------------

def at_work(pid):
    """Whether a Python process has more behind it than its start."""
    cpu_s = int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    return cpu_s > 0.2 and b"python" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]


def by_pid(table):
    return {p.pid: p for p in table.processes}


@pytest.mark.slow
def test_real_busy_process_and_its_run_delay():
    code = "import time\nend = time.time() + 20\nwhile time.time() < end: pass"
    command = ["taskset", "-c", "0", sys.executable, "-c", code]
    children = [subprocess.Popen(command) for _ in range(2)]
    reader = ProcessReader(Path("/"))
    pids = [c.pid for c in children]
    try:
        wait_for(lambda: all(at_work(p) for p in pids), 60)
        t0, before = time.monotonic(), by_pid(reader.read(time.time_ns()))
        time.sleep(1.5)
        after, seconds = by_pid(reader.read(time.time_ns())), time.monotonic() - t0
    finally:
        for child in children:
            child.kill()
            child.wait()
        reader.close()
    used = [(after[p].cpu_seconds - before[p].cpu_seconds) / seconds for p in pids]
    waited = [(after[p].run_delay_seconds - before[p].run_delay_seconds) / seconds for p in pids]
    assert sum(used) <= 1.1
    assert sum(waited) > 0.6, "two busy loops on one core wait for each other"
    assert after[pids[0]].ppid == os.getpid()
    assert "while time.time()" in after[pids[0]].cmdline
    assert before[pids[0]].comm.startswith("python")


def test_real_write_is_counted():
    reader = ProcessReader(Path("/"))
    before = by_pid(reader.read(time.time_ns()))[os.getpid()]
    with tempfile.TemporaryFile(dir="/var/tmp") as file:  # /tmp is often in memory, which is no I/O
        for _ in range(50):
            file.write(os.urandom(1 << 20))
        file.flush()
        os.fsync(file.fileno())
    after = by_pid(reader.read(time.time_ns()))[os.getpid()]
    reader.close()
    assert after.write_bytes - before.write_bytes >= 50 << 20


def test_real_zombies_are_counted_by_parent():
    children = [subprocess.Popen(["true"]) for _ in range(3)]
    for child in children:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    reader = ProcessReader(Path("/"))
    table = reader.read(time.time_ns())
    reader.close()
    assert zombies_by_parent(table)[os.getpid()] == 3
    for child in children:
        child.wait()


def test_real_name_with_parenthesis_and_newline(tmp_path):
    name = "a) R\n(b"
    code = f"import ctypes, time\nctypes.CDLL(None).prctl(15, {name.encode()!r}, 0, 0, 0)\ntime.sleep(20)"
    child = subprocess.Popen([sys.executable, "-c", code])
    reader = ProcessReader(Path("/"))
    try:
        found = wait_for(lambda: (one := by_pid(reader.read(time.time_ns()))[child.pid]).comm == "a) R?(b" and one, 30)
        assert found.ppid == os.getpid()
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        reader.close()


@pytest.mark.needs_root
def test_real_warden_is_asked_for_what_another_user_may_not_read():
    """Read as nobody, the io files of root's processes are closed to us; the hook answers instead."""
    asked = []

    def io_of(pids):
        asked.append(list(pids))
        return {pid: (10.0, 20.0) for pid in pids if pid != os.getppid()}

    child = subprocess.Popen(["sleep", "20"], user=65534)
    os.seteuid(65534)
    try:
        reader = ProcessReader(Path("/"), io_of=io_of)
        time.sleep(0.3)
        found = by_pid(reader.read(time.time_ns()))
        reader.close()
    finally:
        os.seteuid(0)
        child.kill()
        child.wait()
    assert len(asked) == 1
    assert 0 < len(asked[0]) <= IO_MAX
    assert {found[pid].read_bytes for pid in asked[0] if pid != os.getppid()} == {10.0}
    assert child.pid not in asked[0], "its own io file can be read"
    assert found[child.pid].read_bytes != 10.0
    assert found[child.pid].uid == 65534
    if os.getppid() in asked[0]:
        assert math.isnan(found[os.getppid()].read_bytes)


@pytest.mark.needs_root
def test_real_reused_pid_is_another_process():
    """The kernel is told which number comes next; the file held open for the first process must not speak for it."""
    reader = ProcessReader(Path("/"))
    try:
        for _ in range(50):
            first = subprocess.Popen(["sleep", "20"])
            before = by_pid(reader.read(time.time_ns()))[first.pid]
            time.sleep(0.05)  # start times have a grain of 10 ms
            first.kill()
            first.wait()
            Path("/proc/sys/kernel/ns_last_pid").write_text(str(first.pid - 1))
            second = subprocess.Popen(["sleep", "30"])
            time.sleep(0.05)
            after = by_pid(reader.read(time.time_ns())).get(first.pid)
            second.kill()
            second.wait()
            if second.pid == first.pid:
                break
        else:
            pytest.skip("somebody else was always faster")
    finally:
        reader.close()
    assert after is not None
    assert after.start_s > before.start_s
    assert after.cmdline == "sleep 30"
