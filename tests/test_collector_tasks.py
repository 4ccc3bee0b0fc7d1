"""Stuck tasks: state D counts only while a task does not run once; zombies, threads, what a stuck task waits for."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from math import isnan
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.processes import ProcessReader
from collector.tasks import COLLECTOR, Config, Stuck, TaskStates, parse_status, state_of, watched
from etio.core.errors import Broken, NoData
from etio.core.facts import Process, ProcessTable
from etio.core.frame import NS
from tests.daemon_rig import wait_for

STATUS = "Name:\tdd\nState:\t{} (disk sleep)\nTgid:\t7\nvoluntary_ctxt_switches:\t{}\nnonvoluntary_ctxt_switches:\t2\n"
STAT = "{} (dd) {} 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5 0 0\n"


def put(root, pid, state, switches=10, tid=None):
    folder = root / "proc" / str(pid) / "task" / str(tid or pid)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "status").write_text(STATUS.format(state, switches))
    (folder / "stat").write_text(STAT.format(tid or pid, state))


def table(t, *processes):
    return ProcessTable(t * NS, processes)


def proc(pid, state="D", ppid=1, threads=1, comm="dd"):
    return Process(pid=pid, ppid=ppid, comm=comm, state=state, threads=threads)


def collector(root, **config):
    states = TaskStates(Config(**config))
    states.open(root)
    return states


def values(states, t):
    reading = states.collect(t * NS)
    return {s.name: float(v) for s, v in zip(reading.series, reading.values, strict=True)}


@pytest.fixture
def root(tmp_path):
    (tmp_path / "proc").mkdir()
    return tmp_path


def test_counts_are_those_of_the_newest_table(root):
    states = collector(root)
    assert values(states, 1) == {}
    states.take(table(1, proc(5, "S", threads=3), proc(6, "Z"), proc(7, "Z"), proc(8, "D", ppid=2)))
    assert values(states, 2) == {"task_uninterruptible": 1, "task_zombies": 2, "task_threads": 6, "task_processes": 4,
                                 "task_stuck_seconds_max": 0}
    states.take(table(6, proc(5, "S")))
    assert values(states, 6)["task_zombies"] == 0


def test_a_task_that_does_not_run_is_stuck_since_the_first_look(root):
    states = collector(root)
    put(root, 7, "D")
    states.take(table(1, proc(7)))
    assert [values(states, t)["task_stuck_seconds_max"] for t in (2, 3, 10)] == [0, 1, 8]
    assert [(s.process.pid, s.seconds) for s in states.stuck()] == [(7, 8.0)]


def test_one_context_switch_starts_its_time_anew(root):
    states = collector(root)
    states.take(table(1, proc(7)))
    found = []
    for t in range(2, 12):  # a busy writer: in D at every look, and it ran in between
        put(root, 7, "D", switches=t)
        found.append(values(states, t)["task_stuck_seconds_max"])
    assert found == [0] * 10


def test_waking_up_ends_it(root):
    states = collector(root)
    put(root, 7, "D")
    states.take(table(1, proc(7)))
    values(states, 2)
    assert values(states, 8)["task_stuck_seconds_max"] == 6
    put(root, 7, "S")
    assert values(states, 9)["task_stuck_seconds_max"] == 0
    assert states.stuck() == ()
    put(root, 7, "D")
    states.take(table(9, proc(7)))
    assert values(states, 10)["task_stuck_seconds_max"] == 0


def test_a_process_that_has_gone_is_not_stuck(root):
    states = collector(root)
    states.take(table(1, proc(4711)))
    assert values(states, 9)["task_stuck_seconds_max"] == 0


def test_kernel_threads_are_counted_but_never_stuck(root):
    states = collector(root)
    put(root, 9, "D")
    states.take(table(1, proc(9, ppid=2, comm="jbd2/sda1-8")))
    values(states, 2)
    assert values(states, 12) == {"task_uninterruptible": 1, "task_zombies": 0, "task_threads": 1, "task_processes": 1,
                                  "task_stuck_seconds_max": 0}


def test_a_thread_that_hangs_behind_a_sleeping_main_thread_is_found(root):
    states = collector(root, threads_per_look=4)
    put(root, 7, "S")
    for tid in range(100, 120):
        put(root, 7, "D" if tid == 113 else "S", tid=tid)
    states.take(table(1, proc(7, "S", threads=21)))
    for t in range(2, 20):
        states.take(table(t, proc(7, "S", threads=21)))
        stuck = values(states, t)["task_stuck_seconds_max"]
    assert stuck >= 8
    assert [(s.process.pid, s.tid) for s in states.stuck()] == [(7, 113)]
    assert "thread 113; " in states.facts()[0][1]


def test_a_frozen_control_group_and_a_vfork_are_by_design(root):
    for top in ("__refrigerator", "kernel_clone"):
        states = collector(root)
        states.stack = lambda tid, top=top: (top, "get_signal")
        put(root, 7, "D")
        states.take(table(1, proc(7)))
        found = [values(states, t)["task_stuck_seconds_max"] for t in range(2, 12)]
        assert max(found) <= 2
        assert found[-1] == 0


def test_the_fact_tells_what_it_waits_for(root):
    asked = []
    states = collector(root, named=1)
    states.stack = lambda tid: asked.append(tid) or ("percpu_rwsem_wait", "__percpu_down_read", "vfs_write")
    for pid in (7, 8):
        put(root, pid, "D")
    states.take(table(1, proc(7, comm="x;pid=1 comm=y"), proc(8)))
    for t in range(2, 12):
        values(states, t)
    assert asked == [7, 8]  # each once, one in a reading
    assert states.facts() == (("stuck pid=7 comm=x;pid=1 comm=y",
                               "percpu_rwsem_wait; percpu_rwsem_wait < __percpu_down_read < vfs_write; 9 s"),)
    assert Stuck(proc(3), 3, 4.4).fact == ("stuck pid=3 comm=dd", "unknown; kernel stack not readable; 4 s")


def test_no_more_than_watched_are_followed(root):
    states = collector(root, watched=2)
    for pid in (7, 8, 9):
        put(root, pid, "D")
    states.take(table(1, proc(7), proc(8), proc(9)))
    values(states, 2)
    assert values(states, 5)["task_uninterruptible"] == 3
    assert len(states.stuck()) == 2


def test_old_figures_are_given_up(root):
    states = collector(root)
    states.take(table(1, proc(5, "S")))
    assert values(states, 15)["task_processes"] == 1
    assert all(isnan(v) for v in values(states, 30).values())


def test_no_proc_is_no_data(tmp_path):
    with pytest.raises(NoData):
        collector(tmp_path)


@given(st.binary(max_size=300) | st.builds(lambda a, b: STATUS.format(a, b).encode(), st.text(max_size=2),
                                           st.text(max_size=30)))
def test_any_status_is_understood_or_broken(raw):
    try:
        state, switches = parse_status(raw)
    except Broken:
        return
    assert len(state) == 1
    assert switches >= 0


@given(st.binary(max_size=64))
def test_the_name_in_stat_may_hold_anything(name):
    assert state_of(b"7 (" + name.replace(b")", b"") + b") D 1 2\n") == "D"
    assert state_of(b"7 (" + name + b")) S 1 2\n") == "S"
    assert len(state_of(name)) <= len(name)


def test_spec_and_config():
    assert COLLECTOR.build(COLLECTOR.config()).facts() == ()
    for wrong in ({"watched": 0}, {"threads_per_look": -1}, {"named": -1}):
        with pytest.raises(ValueError, match="at least"):
            Config(**wrong)


VFORK = """
import os, sys
os.posix_spawn('/bin/true', ['true'], {}, file_actions=[(os.POSIX_SPAWN_OPEN, 0, sys.argv[1], os.O_RDONLY, 0)])
"""


@pytest.fixture
def uninterruptible(tmp_path):
    """A real task in state D that hurts nobody: its vfork() child waits for a writer of a pipe before it runs exec."""
    os.mkfifo(tmp_path / "fifo")
    child = subprocess.Popen([sys.executable, "-c", VFORK, str(tmp_path / "fifo")])
    try:
        wait_for(lambda: state_of(Path(f"/proc/{child.pid}/stat").read_bytes()) == "D", 30)
        yield child.pid
    finally:
        child.send_signal(signal.SIGKILL)
        with contextlib.suppress(OSError):  # ENXIO: it never came to read
            os.close(os.open(tmp_path / "fifo", os.O_WRONLY | os.O_NONBLOCK))
        child.wait()


@pytest.mark.slow
@pytest.mark.parametrize(("stack", "least"), [(lambda tid: ("nfs_wait_bit_killable",), 0.5), (None, 0.0)])
def test_a_real_task_in_state_d(uninterruptible, stack, least):
    states = collector(Path("/"), named_after_s=0.0)
    states.stack = stack
    read = watched(ProcessReader(Path("/")).read, states)
    read(time.time_ns())
    for _ in range(4):
        reading = states.collect(time.time_ns())
        time.sleep(0.2)
    found = dict(zip((s.name for s in reading.series), reading.values, strict=True))
    assert found["task_uninterruptible"] >= 1
    assert found["task_processes"] > 10
    mine = [s for s in states.stuck() if s.process.pid == uninterruptible]
    assert [s.seconds >= least for s in mine] == ([True] if least else [])
