"""Novelties of programs, units, users, ports and modules; hidden programs that compute; crash loops."""

import os
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.behaviour import Behaviour, Config, parse_modules, port_names, suspicious
from collector.crash_loops import Config as CrashConfig
from collector.crash_loops import CrashLoops
from collector.listeners import parse_listening
from collector.processes import ProcessReader
from etio.core.errors import NoData
from etio.core.event import HostEvent
from etio.core.facts import Actor, ActorTable, Process, ProcessTable
from etio.core.frame import NS

_ROW = "   {}: {} 00000000:0000 {} 00000000:00000000 00:00000000 00000000     0        0 {} 1 0 100 0 0 10 0\n"
TCP = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n" + "".join(
    _ROW.format(i, where, state, 100 + i) for i, (where, state) in enumerate((
        ("00000000:0016", "0A"), ("0100007F:1538", "0A"), ("00000000:{}", "0A"), ("0100007F:C000", "01"))))


def proc(pid, comm, **more):
    more = {"ppid": 1, "uid": 0, "start_s": 1.0, **more}
    return Process(pid=pid, comm=comm, state="S", rss_bytes=1e6, **more)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "proc/net/tcp").write_text(TCP.format("0050"))
    (tmp_path / "proc/modules").write_text("ext4 900 1 - Live 0x0\n")
    return tmp_path


class Rig:
    """A collector that sees a table each five seconds."""

    def __init__(self, root):
        self.one = Behaviour(Config(learn_s=30))
        self.one.open(root)
        self.t = 100

    def see(self, *processes, times=1):
        events = []
        for _ in range(times):
            self.t += 5
            self.one.take(ProcessTable(self.t * NS, processes))
            events += self.one.collect(self.t * NS).events
        return [(e.kind, e.entity) for e in events]


USUAL = (proc(1, "systemd", ppid=0), proc(5, "nginx", unit="nginx.service", uid=33),
         proc(6, "sshd", unit="ssh.service"), proc(7, "bash", ppid=6))


def test_no_proc_is_no_data(tmp_path):
    for one in (Behaviour(Config()), CrashLoops(CrashConfig())):
        with pytest.raises(NoData):
            one.open(tmp_path)


def test_it_is_silent_while_it_learns_and_when_nothing_changes(root):
    rig = Rig(root)
    assert rig.see(*USUAL, times=10) == []
    assert rig.see(*USUAL, times=3) == []


def test_what_is_new_is_told_once_with_its_kind(root):
    rig = Rig(root)
    rig.see(*USUAL, times=10)
    shell = proc(8, "sh", ppid=5, unit="nginx.service", uid=33)
    tool = proc(9, "x", cmdline="/opt/tool-7/x --go", uid=1001, unit="tool.service")
    (root / "proc/net/tcp").write_text(TCP.format("1F90"))
    (root / "proc/modules").write_text("ext4 900 1 - Live 0x0\nnf_tables 900 1 - Live 0x0\n")
    told = rig.see(*USUAL, shell, tool, times=3)
    assert len(told) == 7
    assert set(told) == {("behaviour_new", what) for what in (
        "program=sh", "program=/opt/tool-#/x", "child=nginx starts sh", "user=1001", "unit=tool.service",
        "port=port 8080", "module=nf_tables")}, "ports and modules are listed each fifteen seconds"
    assert rig.see(*USUAL, shell, tool, times=3) == []


def test_kernel_threads_and_what_a_shell_starts_are_no_habits(root):
    rig = Rig(root)
    rig.see(*USUAL, times=10)
    assert rig.see(*USUAL, proc(50, "kworker/7:1", ppid=2)) == []
    assert rig.see(*USUAL, proc(51, "nginx", ppid=7)) == []


def test_listening_ports_and_modules_are_parsed():
    assert port_names(parse_listening(TCP.format("D431").encode())[0]) == {
        "port 22", "port 5432 (loopback)", "a port above 32767"}
    assert parse_modules(b"xfs 1 0\n\nnvme 2 1 - Live\n") == {"xfs", "nvme"}


@given(st.binary(max_size=300))
def test_parsers_never_raise(raw):
    assert isinstance(parse_modules(raw), set)


@pytest.mark.parametrize(("path", "odd"), [
    ("/usr/sbin/nginx", False), ("/usr/sbin/nginx (deleted)", False), ("/home/a/build/a.out", False),
    ("/tmp/a.out", False), ("/tmp/a.out (deleted)", True), ("/dev/shm/x", True), ("/memfd:x (deleted)", True),
    ("", False)])
def test_only_hidden_files_are_suspicious(path, odd):
    assert bool(suspicious(path)) is odd


def test_a_program_that_hides_and_computes_is_told_once(root):
    paths = {9: "/dev/shm/.x", 10: "/usr/bin/gcc", 11: "/dev/shm/idle"}
    rig = Rig(root)
    rig.one.exe_of = paths.__getitem__
    for pid, path in paths.items():
        (root / f"proc/{pid}").mkdir()
        os.symlink(path, root / f"proc/{pid}/exe")
    found = []
    for step in range(6):
        busy = 5.0 * step
        found += rig.see(proc(9, "x", cpu_seconds=busy), proc(10, "gcc", cpu_seconds=busy),
                         proc(11, "idle", cpu_seconds=0.1 * step))
    assert found == [("behaviour_suspect", "pid=9")]


def test_who_hides_is_found_within_seconds_while_tables_come_each_second(root):
    rig = Rig(root)
    rig.one.exe_of = {9: "/dev/shm/.x"}.__getitem__
    (root / "proc/9").mkdir()
    os.symlink("/dev/shm/.x", root / "proc/9/exe")
    found = {}
    for second in range(8):
        rig.one.take(ProcessTable((200 + second) * NS, (proc(9, "x", cpu_seconds=1.0 * second),)))
        found |= {e.kind: second for e in rig.one.collect((200 + second) * NS).events}
    assert found["behaviour_suspect"] == 3


def test_a_snapshot_goes_back_into_a_fresh_collector(root):
    rig, fresh = Rig(root), Rig(root)
    rig.see(*USUAL, times=10)
    fresh.one.restore(rig.one.snapshot())
    assert fresh.see(*USUAL) == []
    assert fresh.see(*USUAL, proc(9, "new")) == [("behaviour_new", "program=new")]


def test_a_real_program_in_shared_memory_that_computes_is_found():
    file = Path(f"/dev/shm/etio-test-{os.getpid()}")
    shutil.copy("/bin/dash", file)
    file.chmod(0o755)
    child = subprocess.Popen([file, "-c", "while :; do :; done"])
    try:
        one, read = Behaviour(Config(busy_cores=0.001)), ProcessReader(Path("/")).read
        one.open(Path("/"))
        found, until = set(), time.monotonic() + 60
        while time.monotonic() < until and not found:
            table = read(time.time_ns())
            young = [p for p in table.processes if p.pid == child.pid]
            # As if it had computed for a while already: the test need not.
            aged = [Process(pid=p.pid, ppid=p.ppid, comm=p.comm, start_s=p.start_s, cpu_seconds=p.cpu_seconds + 60)
                    for p in young]
            one.take(ProcessTable(table.t_ns, tuple(aged)))
            found = {(e.kind, e.entity) for e in one.collect(table.t_ns).events if e.kind == "behaviour_suspect"}
            time.sleep(0.05)
        assert found == {("behaviour_suspect", f"pid={child.pid}")}
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        file.unlink()


# -- crash loops ------------------------------------------------------------------------------------------------------


class Loops:
    """Crash loops, fed with actors and tables each five seconds."""

    def __init__(self, root):
        self.one = CrashLoops(CrashConfig())
        self.one.open(root)
        self.t = 100

    def step(self, *actors, processes=(), seconds=5):
        self.t += seconds
        if processes:
            self.one.take(ProcessTable(self.t * NS, processes))
        self.one.take_actors(ActorTable((self.t - seconds) * NS, self.t * NS, actors))
        return [(e.kind, e.entity) for e in self.one.collect(self.t * NS).events]


def failure(comm, count, faults=0.0, ppid=400):
    return Actor("failure", comm, ppid=ppid, count=count, amount=faults)


def execs(comm, count, ppid=0):
    return Actor("exec", comm, ppid=ppid, count=count)


def test_a_program_that_crashes_again_and_again_is_told_and_its_end_as_well(root):
    loops = Loops(root)
    assert loops.step(failure("worker", 2, 2), execs("worker", 2)) == []
    assert loops.step(failure("worker", 2, 2), execs("worker", 2)) == [("crash_loop", "program=worker")]
    assert loops.step(failure("worker", 2, 2)) == []
    assert [e for _ in range(8) for e in loops.step()] == [("crash_loop_over", "program=worker")]


def test_one_crash_or_many_at_one_moment_are_no_loop(root):
    loops = Loops(root)
    assert loops.step(failure("worker", 16, 16), execs("worker", 16)) == []
    assert [e for _ in range(15) for e in loops.step()] == []
    assert loops.step(failure("other", 1, 1)) == []


def test_an_error_status_needs_many_failures_and_hardly_a_success(root):
    loops = Loops(root)
    for _ in range(5):
        assert loops.step(failure("job", 3), execs("job", 10)) == []
    loops = Loops(root)
    assert loops.step(failure("job", 5), execs("job", 5)) == []
    assert loops.step(failure("job", 5), execs("job", 5)) == [("crash_loop", "program=job")]


def test_a_script_that_waits_with_a_tool_is_no_loop(root):
    loops = Loops(root)
    for tool in ("curl", "grep", "pg_isready", "bash"):
        assert [e for _ in range(5) for e in loops.step(failure(tool, 10), execs(tool, 10))] == []


def test_a_helper_that_a_program_asks_beside_others_is_no_loop(root):
    """Recorded while packages were unpacked: dpkg asks dpkg-split of each whether it is a part of one; "no" is 1."""
    loops = Loops(root)
    for _ in range(6):
        assert loops.step(failure("dpkg-split", 13), execs("dpkg-split", 13, 400), execs("dpkg-deb", 26, 400),
                          execs("tar", 13, 400)) == []


def test_a_worker_that_is_started_after_a_step_of_preparation_is_a_loop(root):
    loops = Loops(root)
    beside = (execs("sleep", 9, 400), execs("migrate", 3, 400), execs("cron-job", 90, 401))
    told = [e for _ in range(3) for e in loops.step(failure("server", 3), execs("server", 3, 400), *beside)]
    assert told == [("crash_loop", "program=server")]


def test_faults_are_told_whatever_else_the_parent_starts(root):
    loops = Loops(root)
    starts = (execs("server", 2, 400), execs("job", 90, 400))
    told = [e for _ in range(2) for e in loops.step(failure("server", 2, 2), *starts)]
    assert told == [("crash_loop", "program=server")]


def test_a_unit_whose_main_process_changes_again_and_again_is_a_loop(root):
    loops, found = Loops(root), []
    for pid in range(200, 206):
        main = proc(pid, "api", unit="api.service", start_s=float(pid))
        found += loops.step(processes=(main, proc(5, "nginx", unit="nginx.service")))
    assert found == [("crash_loop", "program=api.service")]


def test_a_unit_that_is_restarted_once_is_no_loop(root):
    loops, found = Loops(root), []
    for pid in (200, 200, 201, 201, 201, 201, 201):
        found += loops.step(processes=(proc(pid, "api", unit="api.service", start_s=float(pid)),))
    assert found == []


def test_the_event_tells_how_it_ends_and_who_starts_it_again(root):
    loops, told = Loops(root), []
    for t in (1, 7):
        loops.one.take(ProcessTable(t * NS, (proc(400, "runsvdir", cgroup="/services"),)))
        loops.one.take_actors(ActorTable(0, t * NS, (failure("worker", 3, 1), execs("worker", 3))))
        told += loops.one.collect(t * NS).events
    (event,) = told
    assert (event.get("starts"), event.get("cgroup")) == (6, "/services")
    assert event.get("how") == "2 of them by a fault such as SIGSEGV or SIGABRT; runsvdir (pid 400) starts it again"


@pytest.mark.parametrize(("faults", "unit", "how"), [
    (3, "SIGBUS", "by SIGBUS (a file that it has mapped is shorter than what it reads of it, or its disk fails)"),
    (3, "SIGTRAP", "by SIGTRAP"),
    (0, "status 127", "with status 127 (a program or a library that is not there)"),
    (0, "status 3", "with status 3")])
def test_the_event_tells_the_signal_or_the_status(root, faults, unit, how):
    loops, told = Loops(root), []
    for t in (1, 7):
        ends = replace(failure("worker", 3, faults), unit=unit)
        loops.one.take_actors(ActorTable(0, t * NS, (ends, execs("worker", 3))))
        told += loops.one.collect(t * NS).events
    assert [event.get("how") for event in told] == [how]


def test_without_ebpf_crashes_in_the_kernel_log_count(root):
    loops, found = Loops(root), []
    for second in range(4):
        t_ns = (loops.t + 4 * second) * NS
        loops.one.take_event(HostEvent(t_ns, "segfault", f"pid={second}", (("comm", "worker"),)))
        found += [(e.kind, e.entity) for e in loops.one.collect(t_ns).events]
    assert found == [("crash_loop", "program=worker")]
