"""Processes near their limits: events of two looks that agree, their ends, zombies by parent, tasks of a user."""

import os
import resource
import signal
import subprocess
import sys
import time
from math import inf, isnan
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.process_health import COLLECTOR, Config, ProcessHealth
from collector.processes import ProcessReader
from collector.table_watcher import seen_by
from collector.task_limits import parse_limits
from etio.core.errors import NoData
from etio.core.facts import Process, ProcessTable
from etio.core.frame import NS

LIMITS = ("Limit                     Soft Limit           Hard Limit           Units     \n"
          "Max processes             {}                {}                processes \n"
          "Max open files            {}                 {}                 files     \n")


def put(root, pid, files, most="100", tasks="unlimited"):
    folder = root / "proc" / str(pid)
    (folder / "fd").mkdir(parents=True, exist_ok=True)
    for old in (folder / "fd").iterdir():
        old.unlink()
    for i in range(files):
        (folder / "fd" / str(i)).touch()
    (folder / "limits").write_text(LIMITS.format(tasks, tasks, most, most))


def proc(pid, ppid=1, state="S", **more):
    comm = more.pop("comm", f"p{pid}")
    return Process(pid=pid, ppid=ppid, comm=comm, state=state, rss_bytes=1e6, start_s=1.0, **more)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A fake /proc on a file system whose folders have no size of their own."""
    (tmp_path / "proc").mkdir()
    real = os.stat

    def stat(path, *args, **kwargs):
        found = real(path, *args, **kwargs)
        return os.stat_result((*found[:6], 0, *found[7:])) if str(path).endswith("/fd") else found

    monkeypatch.setattr("collector.process_health.os.stat", stat)
    return tmp_path


def collector(root, **config):
    health = ProcessHealth(Config(**config))
    health.open(root)
    return health


def look(health, t, *processes):
    """(values by name, [(kind, entity)]) of one reading; with processes, a fresh table came before it."""
    if processes:
        health.take(ProcessTable(t * NS, processes))
    reading = health.collect(t * NS)
    return ({s.name: float(v) for s, v in zip(reading.series, reading.values, strict=True)},
            [(e.kind, e.entity) for e in reading.events])


def test_no_proc_is_no_data(tmp_path):
    with pytest.raises(NoData):
        ProcessHealth(Config()).open(tmp_path)


def test_a_process_at_its_limit_is_told_once_after_two_looks_and_its_end_as_well(root):
    health = collector(root)
    put(root, 7, 98)
    assert look(health, 1, proc(7)) == ({"task_fds_used_ratio_max": 0.98, "task_fds_total": 98,
                                         "task_user_tasks_used_ratio_max": 0, "task_zombies_of_one_parent_max": 0}, [])
    assert look(health, 2)[1] == [("fds_exhausted", "pid=7")]
    assert look(health, 3)[1] == []
    put(root, 7, 60)
    values, events = look(health, 4)
    assert values["task_fds_used_ratio_max"] == 0.6
    assert events == [("fds_released", "pid=7")]


def test_a_process_that_ends_at_its_limit_is_over(root):
    health = collector(root)
    put(root, 7, 98)
    look(health, 1, proc(7))
    look(health, 2)
    (root / "proc/7/fd").rename(root / "gone")
    assert look(health, 3)[1] == [("fds_released", "pid=7")]
    assert look(health, 6, proc(8))[1] == []


def test_a_burst_of_files_in_one_look_is_not_told(root):
    health = collector(root)
    put(root, 7, 98)
    look(health, 1, proc(7))
    put(root, 7, 50)
    assert look(health, 2)[1] == look(health, 3)[1] == []


def test_many_files_below_a_high_or_no_limit_are_fine(root):
    health = collector(root)
    put(root, 7, 300, most="100000")
    put(root, 8, 300, most="unlimited")
    for t in range(1, 5):
        values, events = look(health, t, proc(7), proc(8))
        assert (events, values["task_fds_used_ratio_max"]) == ([], 0.003)


def test_limits_that_cannot_be_read_are_no_limit(root):
    health = collector(root)
    put(root, 7, 98)
    (root / "proc/7/limits").unlink()
    for t in range(1, 4):
        values, events = look(health, t, proc(7))
        assert "task_fds_used_ratio_max" not in values
        assert events == []


def test_of_many_processes_some_are_looked_at_in_each_table(root):
    health = collector(root, looks=2)
    for pid in range(7, 12):
        put(root, pid, 10)
    totals = [look(health, t, *(proc(p) for p in range(7, 12)))[0]["task_fds_total"] for t in (1, 5, 9)]
    assert totals == [20, 40, 50]


def bury(root, *pids):
    """Makes processes dead children that nobody has collected."""
    for pid in pids:
        (root / f"proc/{pid}").mkdir(exist_ok=True)
        (root / f"proc/{pid}/stat").write_text(f"{pid} (p (x) Z) Z 7 7 7 0 -1 0\n")


def test_zombies_that_stay_are_told_and_when_they_are_gone(root):
    health = collector(root, zombies=10)
    dead = [proc(100 + i, ppid=7, state="Z") for i in range(40)]
    bury(root, *(p.pid for p in dead))
    assert look(health, 1, proc(7), *dead[:12])[1] == []
    assert look(health, 3)[1] == []
    values, events = look(health, 6, proc(7), *dead)
    assert (values["task_zombies_of_one_parent_max"], events) == (40, [("zombies_pile_up", "pid=7")])
    assert look(health, 11, proc(7), *dead)[1] == []
    assert look(health, 16, proc(7), *dead[:2])[1] == [("zombies_gone", "pid=7")]


def test_the_end_of_a_parent_ends_what_was_told_of_it(root):
    health = collector(root, zombies=10)
    dead = [proc(100 + i, ppid=7, state="Z") for i in range(12)]
    bury(root, *(p.pid for p in dead))
    look(health, 1, proc(7), *dead)
    assert look(health, 6)[1] == [("zombies_pile_up", "pid=7")]
    (root / "proc/100/stat").unlink()
    assert look(health, 7)[1] == [("zombies_gone", "pid=7")]


def test_zombies_of_a_burst_that_is_collected_are_not_told(root):
    health = collector(root, zombies=10)
    dead = [proc(100 + i, ppid=7, state="Z") for i in range(60)]
    bury(root, *(p.pid for p in dead))
    assert look(health, 1, proc(7), *dead[:30])[1] == []
    for child in dead[:20]:
        (root / f"proc/{child.pid}/stat").unlink()
    assert look(health, 6, proc(7), *dead[20:])[1] == []
    assert look(health, 7)[1] == []


def stop(root, pid, state="T", terminal=0, nice=0, group=7):
    (root / f"proc/{pid}").mkdir(exist_ok=True)
    (root / f"proc/{pid}/stat").write_text(
        f"{pid} (p (x) T) {state} 1 {group} 7 {terminal} -1 0 0 0 0 0 0 0 0 0 {20 + nice} {nice} 1 0 100\n")


def test_a_stopped_service_is_told_and_when_it_goes_on(root):
    health = collector(root)
    stop(root, 7)
    service = proc(7, state="T", unit="pgbouncer.service")
    assert look(health, 1, service)[1] == []
    assert look(health, 3)[1] == []
    assert look(health, 5)[1] == [("process_stopped", "pid=7")]
    assert look(health, 6, service)[1] == []
    stop(root, 7, "S")
    assert look(health, 7)[1] == [("process_continued", "pid=7")]


def test_a_stopped_process_that_listens_is_a_service_too(root):
    (root / "proc/net").mkdir()
    (root / "proc/net/tcp").write_text("  sl\n   0: 0100007F:1538 00000000:0000 0A 0:0 00:0 0 0 0 77 1\n")
    health, asked = collector(root), []
    health.owners = lambda inodes: asked.append(inodes) or {77: 8}
    stop(root, 7)
    stop(root, 8)
    look(health, 1, proc(7, state="T"), proc(8, state="T"))
    assert [look(health, t)[1] for t in (5, 6, 7)] == [[("process_stopped", "pid=8")], [], []]
    assert asked == [[77], [77]]


def test_background_work_that_listens_may_be_paused_but_no_service(root):
    (root / "proc/net").mkdir()
    (root / "proc/net/tcp").write_text("  sl\n   0: 0100007F:1538 00000000:0000 0A 0:0 00:0 0 0 0 77 1\n")
    health = collector(root)
    health.owners = lambda inodes: {77: 7}
    stop(root, 7, nice=19)
    stop(root, 8, nice=19)
    look(health, 1, proc(7, state="T"), proc(8, state="T", unit="indexer.service"))
    assert [look(health, t)[1] for t in (5, 6, 7)] == [[("process_stopped", "pid=8")], [], []]


@pytest.mark.parametrize(("leader", "told"), [(("T", 19), False), (("T", 0), True), (("S", 19), True)])
def test_a_server_of_a_background_job_may_be_paused_with_the_whole_job(root, leader, told):
    """A daemon under test raised its own priority; whoever pauses the niced test run pauses both."""
    (root / "proc/net").mkdir()
    (root / "proc/net/tcp").write_text("  sl\n   0: 0100007F:1538 00000000:0000 0A 0:0 00:0 0 0 0 77 1\n")
    health = collector(root)
    health.owners = lambda inodes: {77: 8}
    state, nice = leader
    stop(root, 5, state=state, nice=nice, group=5)
    stop(root, 8, nice=-15, group=5)
    look(health, 1, proc(5, state=state), proc(8, state="T"))
    assert look(health, 5)[1] == ([("process_stopped", "pid=8")] if told else [])


@pytest.mark.parametrize("nice", [-5, 0, 9])
def test_what_listens_at_an_ordinary_priority_is_a_service(root, nice):
    (root / "proc/net").mkdir()
    (root / "proc/net/tcp").write_text("  sl\n   0: 0100007F:1538 00000000:0000 0A 0:0 00:0 0 0 0 77 1\n")
    health = collector(root)
    health.owners = lambda inodes: {77: 7}
    stop(root, 7, nice=nice)
    look(health, 1, proc(7, state="T"))
    assert look(health, 5)[1] == [("process_stopped", "pid=7")]


def test_a_job_a_traced_process_and_a_short_stop_are_not_told(root):
    health = collector(root)
    health.owners = lambda inodes: {}
    stop(root, 6)
    stop(root, 7, terminal=34816)
    stop(root, 8, "t")
    stop(root, 9)
    unit = {"unit": "x.service"}
    assert look(health, 1, proc(6, state="T"), proc(7, state="T", **unit), proc(8, state="t", **unit),
                proc(9, state="T", **unit))[1] == []
    stop(root, 9, "S")
    for t in (3, 6, 20):
        assert look(health, t)[1] == []


def test_tasks_of_a_user_count_against_its_limit_but_not_those_of_root(root):
    health = collector(root)
    put(root, 7, 1, tasks="100")
    put(root, 8, 1, tasks="100")
    events = look(health, 1, proc(7, uid=1000, threads=60), proc(8, uid=0, threads=500),
                  proc(9, uid=1000, threads=38))[1]
    assert events == [("user_tasks_exhausted", "uid=1000")]
    assert look(health, 6, proc(7, uid=1000, threads=60))[1] == [("user_tasks_released", "uid=1000")]


def test_a_user_whose_tasks_are_all_gone_or_few_is_told_to_have_room_again(root):
    health = collector(root)
    put(root, 7, 1, tasks="60")
    assert look(health, 1, proc(7, uid=1000, threads=60))[1] == [("user_tasks_exhausted", "uid=1000")]
    assert look(health, 6, proc(9, uid=0))[1] == [("user_tasks_released", "uid=1000")]
    assert look(health, 11, proc(7, uid=1000, threads=60))[1] == [("user_tasks_exhausted", "uid=1000")]
    assert look(health, 16, proc(7, uid=1000, threads=3))[1] == [("user_tasks_released", "uid=1000")]


def test_the_limit_of_the_program_that_may_have_least_counts_not_of_that_with_most_threads(root):
    health = collector(root)
    put(root, 7, 1, tasks="unlimited")
    put(root, 8, 1, tasks="120")
    put(root, 20, 1, tasks="1")
    daemon = proc(7, uid=65534, threads=60, comm="daemon")
    pool = [proc(8 + i, uid=65534, threads=1, comm="pool") for i in range(10)]
    hardened = proc(20, uid=65534, threads=1, comm="hardened")
    assert look(health, 1, daemon, hardened, *pool)[1] == []
    pool = [proc(100 + i, uid=65534, threads=1, comm="pool") for i in range(59)]
    assert look(health, 6, daemon, hardened, proc(8, uid=65534, threads=1, comm="pool"), *pool)[1] == [
        ("user_tasks_exhausted", "uid=65534")]


def test_a_user_whose_limits_cannot_be_read_has_none(root):
    values, events = look(collector(root), 1, proc(7, uid=1000, threads=600))
    assert (values["task_user_tasks_used_ratio_max"], events) == (0, [])


def test_a_process_with_the_pid_of_another_starts_anew(root):
    health = collector(root)
    put(root, 7, 98)
    look(health, 1, proc(7))
    other = Process(pid=7, ppid=1, comm="new", state="S", rss_bytes=1e6, start_s=9.0)
    assert look(health, 6, other)[1] == []
    assert look(health, 7)[1] == [("fds_exhausted", "pid=7")]


@given(st.binary(max_size=300))
def test_limits_never_raise(raw):
    files, tasks = parse_limits(raw)
    assert isnan(files) or files >= 0
    assert isnan(tasks) or tasks >= 0


def test_limits_of_this_process_are_those_of_getrlimit():
    files, tasks = parse_limits(Path("/proc/self/limits").read_bytes())
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert files == (inf if soft == resource.RLIM_INFINITY else soft)
    assert tasks > 0


def test_a_reader_is_seen_by_all():
    seen = []
    table = ProcessTable(1, ())
    read = seen_by(lambda t_ns: table, lambda t: seen.append(1), lambda t: seen.append(2))
    assert read(5) is table
    assert seen == [1, 2]


def test_a_real_process_that_leaks_files_is_found():
    code = ("import resource, socket, time\nresource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))\nheld = []\n"
            "try:\n    while True: held.append(socket.socket())\nexcept OSError: print('full', flush=True)\n"
            "time.sleep(60)\n")
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "full\n"
        health = COLLECTOR.build(COLLECTOR.config())
        health.open(Path("/"))
        read = seen_by(ProcessReader(Path("/")).read, health.take)
        found = set()
        until = time.monotonic() + 20
        while time.monotonic() < until and ("fds_exhausted", f"pid={child.pid}") not in found:
            read(time.time_ns())
            found |= {(e.kind, e.entity) for e in health.collect(time.time_ns()).events}
        assert ("fds_exhausted", f"pid={child.pid}") in found
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
