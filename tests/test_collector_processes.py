"""The process table: odd names, reused pids, exec, close looks, and the real processes of this host."""

import gc
import math
import os
import resource
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.process_files import parse_cmdline, parse_io, parse_schedstat, parse_stat
from collector.processes import HIGH, KEEP_OPEN, LOW_FILES, ProcessReader
from etio.core.errors import Broken, NoData
from etio.core.frame import NS
from tests.property_rig import outcome

T0 = 1_700_000_000 * NS
RECORDED = (b"1234 (fio) D 1200 1234 1200 34816 1234 4194304 5231 0 17 0 310 1540 0 0 20 0 3 0 88123 "
            b"730234880 8192 18446744073709551615 94200 95000 140720 0 0 0 0 16781312 2 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0"
            b" 0 0 0\n")


def stat(pid=7, *, comm="worker", cpu=(10, 5), threads=1, start=1000, flags=0x400000):
    fields = ["S", 1, pid, pid, 0, -1, flags, 5, 0, 3, 0, *cpu, 0, 0, 20, 0, threads, 0, start, 1 << 20, 100]
    return f"{pid} ({comm}) {' '.join(map(str, fields))} 18446744073709551615{' 0' * 28}\n".encode()


class Host:
    """A /proc with processes of our making."""

    def __init__(self, root):
        self.root = root
        (root / "proc").mkdir()
        (root / "proc/uptime").write_text("100.0 200.0\n")

    def put(self, pid=7, *, cgroup="0::/system.slice/web.service\n", cmdline=b"web\0--port\080\0", io=(1000, 2000),
            delay=5, **fields):
        base = self.root / "proc" / str(pid)
        (base / "task").mkdir(parents=True, exist_ok=True)
        (base / "stat").write_bytes(stat(pid, **fields))
        (base / "schedstat").write_text(f"1 {delay * NS} 9\n")
        (base / "cgroup").write_text(cgroup)
        (base / "cmdline").write_bytes(cmdline)
        if io is not None:
            (base / "io").write_text(f"rchar: 1\nwchar: 2\nread_bytes: {io[0]}\nwrite_bytes: {io[1]}\n")

    def put_thread(self, pid, tid, delay):
        base = self.root / "proc" / str(pid) / "task" / str(tid)
        base.mkdir(parents=True, exist_ok=True)
        (base / "schedstat").write_text(f"1 {delay * NS} 9\n")

    def remove(self, pid):
        os.rename(self.root / "proc" / str(pid), self.root / f"gone-{pid}-{time.monotonic_ns()}")


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


@pytest.fixture
def reader(host):
    made = ProcessReader(host.root)
    yield made
    made.close()


def by_pid(table):
    return {p.pid: p for p in table.processes}


# --- parsers ----------------------------------------------------------------------------------------------------------

def test_recorded_line():
    found = parse_stat(RECORDED)
    tick = os.sysconf("SC_CLK_TCK")
    assert (found.pid, found.comm, found.state, found.ppid, found.threads) == (1234, "fio", "D", 1200, 3)
    assert found.cpu_seconds == 1850 / tick
    assert found.start_s == 88123 / tick
    assert found.rss_bytes == 8192 * os.sysconf("SC_PAGE_SIZE")
    assert found.major_faults == 17
    assert not found.kernel_thread


@pytest.mark.parametrize(("comm", "shown"), [
    ("Web Content", "Web Content"), ("(sd-pam)", "(sd-pam)"), ("a) S 1 2 (b", "a) S 1 2 (b"), ("a\nb", "a?b"),
    ("\x1b[31m", "?[31m"), (") R 1", ") R 1"), ("", ""),
])
def test_hostile_names(comm, shown):
    found = parse_stat(stat(comm=comm))
    assert (found.comm, found.state, found.ppid) == (shown, "S", 1)


@given(st.binary(max_size=300) | st.builds(lambda at, put: RECORDED[:at] + put + RECORDED[at + len(put):],
                                           st.integers(0, len(RECORDED)), st.binary(max_size=8)))
def test_stat_is_a_whole_line_or_broken(data):
    found = outcome(lambda: parse_stat(data), Broken, says="/proc/PID/stat")
    if found is not None:
        assert len(data.rpartition(b")")[2].split()) >= 22
        assert found.comm.isprintable()
        assert all(math.isfinite(v) for v in (found.cpu_seconds, found.start_s, found.rss_bytes, found.major_faults))


@given(st.integers(0, len(RECORDED)))
def test_truncated_stat(cut):
    with suppress(Broken):
        assert parse_stat(RECORDED[:cut]).pid == 1234


@given(st.binary(max_size=300))
def test_other_parsers_never_raise(data):
    parse_schedstat(data)
    parse_io(data)
    text = parse_cmdline(data)
    assert len(text) <= 200
    assert text.isprintable()


# --- reader -----------------------------------------------------------------------------------------------------------

def test_all_fields(host, reader):
    host.put()
    found = by_pid(reader.read(T0))[7]
    assert (found.comm, found.cmdline) == ("worker", "web --port 80")
    assert (found.cgroup, found.unit) == ("/system.slice/web.service", "web.service")
    assert (found.run_delay_seconds, found.read_bytes, found.write_bytes) == (5.0, 1000, 2000)
    assert found.uid == os.getuid()


def test_reused_pid_is_another_process(host):
    reader = ProcessReader(host.root, keep_open=0)
    host.put(start=1000, comm="old")
    reader.read(T0)
    host.remove(7)
    host.put(start=9000, comm="new", cgroup="0::/other\n", io=None, delay=1)
    found = by_pid(reader.read(T0 + NS))[7]
    assert (found.comm, found.cgroup, found.run_delay_seconds) == ("new", "/other", 1.0)
    assert math.isnan(found.read_bytes)


def test_reused_pid_within_an_open_file(host, reader):
    host.put(start=1000, comm="same", cmdline=b"first\0")
    reader.read(T0)
    host.put(start=9000, comm="same", cmdline=b"second\0", io=None)
    found = by_pid(reader.read(T0 + NS))[7]
    assert (found.cmdline, found.start_s) == ("second", 9000 / os.sysconf("SC_CLK_TCK"))


def test_exec_is_noticed_at_once(host, reader):
    host.put(comm="bash", cmdline=b"bash\0", cgroup="0::/a\n")
    reader.read(T0)
    host.put(comm="stress-ng", cmdline=b"stress-ng\0--cpu\0004\0", cgroup="0::/b\n")
    found = by_pid(reader.read(T0 + NS))[7]
    assert (found.cmdline, found.cgroup) == ("stress-ng --cpu 4", "/b")


def test_moved_busy_process_is_noticed_within_five_seconds(host, reader):
    host.put(cgroup="0::/a\n", cpu=(900, 0))
    reader.read(T0)
    host.put(cgroup="0::/b\n", cpu=(900, 0))
    groups = [by_pid(reader.read(T0 + i * NS))[7].cgroup for i in range(1, 7)]
    assert groups[0] == "/a"
    assert groups[-1] == "/b"


def test_unchanged_process_is_the_same_row(host, reader):
    host.put()
    assert reader.read(T0).processes[0] is reader.read(T0 + NS).processes[0]


def test_vanished_process_leaves_and_its_file_is_closed(host, reader):
    host.put()
    reader.read(T0)
    before = len(os.listdir("/proc/self/fd"))
    host.remove(7)
    assert reader.read(T0 + NS).processes == ()
    assert len(os.listdir("/proc/self/fd")) == before - 1


def test_process_that_vanishes_between_listing_and_reading(host, reader):
    host.put()
    (host.root / "proc/8").mkdir()
    assert list(by_pid(reader.read(T0))) == [7]


def test_broken_stat_hurts_nobody_else(host, reader):
    host.put()
    host.put(pid=8)
    (host.root / "proc/8/stat").write_bytes(b"8 (tru")
    assert list(by_pid(reader.read(T0))) == [7]


def test_run_delay_of_all_threads_and_of_those_that_ended(host, reader):
    host.put(threads=2)
    host.put_thread(7, 7, 2)
    host.put_thread(7, 8, 3)
    assert by_pid(reader.read(T0))[7].run_delay_seconds == 5.0
    os.rename(host.root / "proc/7/task/8", host.root / "ended")
    host.put(threads=1, cpu=(20, 5))
    host.put_thread(7, 7, 4)
    assert by_pid(reader.read(T0 + NS))[7].run_delay_seconds == 7.0


def test_beyond_the_thread_budget_the_delay_is_missing(host):
    reader = ProcessReader(host.root, threads=4)
    host.put(threads=5)
    for tid in range(7, 12):
        host.put_thread(7, tid, 1)
    assert math.isnan(by_pid(reader.read(T0))[7].run_delay_seconds)


def test_who_is_not_looked_at_closely_has_no_io_instead_of_an_old_one(host):
    reader = ProcessReader(host.root, focus=1)
    host.put(pid=7, cpu=(100, 0))
    host.put(pid=8, cpu=(10, 0))
    first = by_pid(reader.read(T0))
    assert first[7].read_bytes == 1000
    assert math.isnan(first[8].read_bytes)
    host.put(pid=7, cpu=(101, 0))
    host.put(pid=8, cpu=(900, 0))
    second = by_pid(reader.read(T0 + NS))
    assert math.isnan(second[7].read_bytes)
    assert second[8].read_bytes == 1000


def test_idle_processes_get_their_close_look_in_turn(host):
    reader = ProcessReader(host.root, focus=2)
    for pid in range(10, 16):
        host.put(pid=pid)
    known = [sum(not math.isnan(p.read_bytes) for p in reader.read(T0 + i * NS).processes) for i in range(3)]
    assert known == [2, 4, 6]


def test_kernel_threads_have_no_command_line(host, reader):
    host.put(flags=0x00200000, cmdline=b"")
    found = by_pid(reader.read(T0))[7]
    assert found.cmdline == ""
    assert math.isnan(found.read_bytes)


def test_no_proc_is_no_data(tmp_path):
    with pytest.raises(NoData):
        ProcessReader(tmp_path).read(T0)


def test_many_processes_do_not_eat_the_descriptors(host):
    reader = ProcessReader(host.root, keep_open=5)
    for pid in range(10, 40):
        host.put(pid=pid)
    before = len(os.listdir("/proc/self/fd"))
    assert len(reader.read(T0).processes) == 30
    assert len(os.listdir("/proc/self/fd")) == before + 5
    reader.close()
    reader.close()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(("most", "kept"), [(HIGH - 1, LOW_FILES), (HIGH + 50, LOW_FILES + 50), (4096, 300)])
def test_as_many_files_are_held_as_may_be_and_low_numbers_stay_free(host, most, kept):
    reader = ProcessReader(host.root)
    for pid in range(1000, 1300):
        host.put(pid=pid)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= hard < most:
        pytest.skip(f"not more than {hard} files here")
    gc.collect()  # files of earlier tests that wait for it would count as given back
    before = {int(fd) for fd in os.listdir("/proc/self/fd")}
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    try:
        for i in range(3):
            assert len(reader.read(T0 + i * NS).processes) == 300
        held = {int(fd) for fd in os.listdir("/proc/self/fd")} - before
        taken = sum(HIGH <= fd < most for fd in before)  # by what other tests left open
        assert len(held) in (kept - taken, kept - taken + 1), "and the listing itself"
        assert sum(fd < HIGH for fd in held) in (LOW_FILES, LOW_FILES + 1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        reader.close()
    assert KEEP_OPEN < 4096 - HIGH
