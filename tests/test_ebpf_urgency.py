"""A daemon that others keep from the CPU is put before them for a while, with what works for it, by the warden."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.daemon import children
from collector.ebpf import urgency
from collector.ebpf.client import WardenClient, spawn_warden
from collector.ebpf.urgency import BUDGET_S, CLOSELY_S, HOLD_S, PAUSE_S, STARVED, Guard, Load, Task
from etio.daemon.privileges import NICE
from tests.daemon_rig import wait_for

ROOT = Path(__file__).parents[1]
NO_GROUPS = not Path("/proc/self/autogroup").exists()
STARVING = """
import json, os, subprocess, sys, time
from collector.ebpf.urgency import HOLD_S, Guard
DAEMON = '''
import os, subprocess, threading
backup = subprocess.Popen(["nice", "-n", "30", "sleep", "100"])
worker = subprocess.Popen(["sleep", "100"])
while os.getpriority(os.PRIO_PROCESS, backup.pid) < 19:
    pass
threading.Thread(target=threading.Event().wait, daemon=True).start()
print(worker.pid, backup.pid, flush=True)
while True:
    pass
'''
HOG = "import os\\nos.setpriority(0, 0, -20)\\nprint(1, flush=True)\\nwhile True: pass"
os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
os.setpriority(os.PRIO_PROCESS, 0, 0)
started = [subprocess.Popen([sys.executable, "-c", DAEMON], stdout=subprocess.PIPE)]
others = [int(word) for word in started[0].stdout.readline().split()]
try:
    clock, policies = [0.0], lambda: [os.sched_getscheduler(t) for t in (*tasks, *others)]
    guard = Guard(started[0].pid, 0, lambda: clock[0], lambda: 99)
    tasks = sorted(int(name) for name in os.listdir(f"/proc/{started[0].pid}/task"))
    seen = [guard.able, len(tasks), policies()]
    started.append(subprocess.Popen([sys.executable, "-c", HOG], stdout=subprocess.PIPE))
    started[1].stdout.readline()
    for _ in range(100 if guard.able else 0):
        guard.look()
        if guard.raised:
            break
        clock[0] += 1.0
        time.sleep(0.7)
    seen += [guard.raised, policies()]
    clock[0] += HOLD_S - 1
    guard.look()
    seen.append(policies())
    clock[0] += 2
    guard.look()
    print(json.dumps([*seen, policies()]))
finally:
    for pid in (*(p.pid for p in started), *others):
        os.kill(pid, 9)
"""


@pytest.mark.needs_root
def test_who_starves_is_in_the_real_time_class_for_a_while():
    done = subprocess.run([sys.executable, "-c", STARVING], capture_output=True, text=True, check=True, cwd=ROOT,
                          start_new_session=True, timeout=120)
    able, threads, before, raised, during, later, after = json.loads(done.stdout)
    calm = [os.SCHED_OTHER] * 4
    assert (threads, before, after) == (2, calm, calm)
    if not able:
        pytest.skip("no real-time class on this host")
    assert raised
    assert during == later == [os.SCHED_RR] * 3 + [os.SCHED_OTHER]
    assert "kept from the CPU" in done.stderr


@pytest.mark.needs_root
@pytest.mark.skipif(NO_GROUPS, reason="this kernel does not group sessions")
@pytest.mark.parametrize("module", ["etio.daemon.privileges", "collector.ebpf.warden"])
def test_daemon_and_warden_are_before_other_sessions_where_theirs_is_their_own(module):
    code = f"import {module} as one, os\none.raise_priority()\nprint(os.getpriority(os.PRIO_PROCESS, 0))\n" \
           "print(open('/proc/self/autogroup').read())"
    told = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT,
                           start_new_session=own).stdout.split() for own in (True, False)]
    assert (told[0][0], told[0][-1]) == (str(NICE), str(NICE))
    ours = Path("/proc/self/autogroup").read_text().split()  # nothing where no session was ever grouped
    assert told[1] == [str(NICE), *ours]


@pytest.mark.needs_root
@pytest.mark.parametrize("guarded", [True, False])
def test_a_warden_looks_after_who_asks_for_it_only(guarded):
    channel, pid = spawn_warden(guarded)
    with WardenClient(channel) as client:
        assert client.ping() == pid
        watchers = children(pid)
        if guarded:
            able = wait_for(lambda: _policy(watchers[0]))
        assert os.sched_getscheduler(pid) == os.SCHED_OTHER
    os.waitpid(pid, 0)
    assert len(watchers) == guarded
    assert not any(Path(f"/proc/{one}").exists() for one in watchers)
    if guarded and able != os.SCHED_RR:
        pytest.skip("no real-time class on this host")


def _policy(pid):
    """Of a watcher: real-time, or ended where it may not be."""
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    return os.sched_getscheduler(pid) or (-1 if state == "Z" else None)


def task(run=0, wait=0, slices=0, running=True):
    return Task(run, wait, slices, running)


@pytest.mark.parametrize(("before", "now", "starves"), [
    (task(5, 7, 3), task(5, 7, 3), True),
    (task(5, 7, 3, running=False), task(5, 7, 3), False),
    (task(5, 7, 3), task(5, 7, 3, running=False), False),
    (task(5, 7, 3), task(900, 7, 3), False),
    (task(5, 7, 3), task(9, 7 + int(STARVED * 2e9), 4, running=False), True),
    (task(5, 7, 3), task(9, 6 + int(STARVED * 2e9), 40), False),
])
def test_who_starves(before, now, starves):
    assert now.starves(before, 2.0) is starves


@pytest.fixture
def host(monkeypatch):
    """A daemon of one thread as the kernel would show it; host["put"]: what it was told, in turn."""
    state = {"now": 0.0, "task": task(), "put": [], "bounded": True, "ticks": 0}
    monkeypatch.setattr(urgency, "tasks_of", lambda pid: [pid])
    monkeypatch.setattr(urgency, "read", lambda _: state["task"])
    monkeypatch.setattr(urgency, "put", lambda number, urgent: state["put"].append((number, urgent)) or True)
    monkeypatch.setattr(urgency, "ticks_of", lambda _: state["ticks"])
    monkeypatch.setattr(urgency, "bounded", lambda: state["bounded"])
    return state


def look(host, guard, seconds):
    host["now"] += seconds
    guard.look()
    return guard.raised


def test_a_daemon_that_takes_too_much_of_it_is_ordinary_for_a_minute(host):
    guard = Guard(7, 8, lambda: host["now"], lambda: 999)
    assert [look(host, guard, 1.0), look(host, guard, 1.0)] == [False, True]
    host["task"] = task(run=int(BUDGET_S * 1e9) + 1, slices=9)
    assert not look(host, guard, 1.0)
    assert host["put"] == [(0, True), (7, True), (8, True), (7, False), (8, False)]
    assert not look(host, guard, PAUSE_S - 1.0)
    assert look(host, guard, 1.5)
    assert not look(host, guard, HOLD_S + 1.0)


def test_no_look_at_threads_while_there_is_a_core_for_everybody(host):
    crowd = [1]
    guard = Guard(7, 8, lambda: host["now"], lambda: crowd[0])
    assert not look(host, guard, 1.0)
    crowd[0] = 999
    assert not look(host, guard, 1.0), "the first look at its threads"
    assert look(host, guard, 1.0)


def test_threads_of_a_daemon_that_gets_on_are_looked_at_now_and_then_only(host):
    guard = Guard(7, 8, lambda: host["now"], lambda: 999)
    for second in range(1, int(CLOSELY_S) + 1):
        host["ticks"] += 1
        assert not look(host, guard, 1.0), second
    host["ticks"] += 1
    assert look(host, guard, 1.0), "one of its threads got nothing all the time"


def test_where_the_kernel_sets_no_bound_nobody_is_raised(host):
    host["bounded"] = False
    guard = Guard(7, 8, lambda: host["now"], lambda: 999)
    assert not any(look(host, guard, 1.0) for _ in range(3))
    assert host["put"] == []


def test_tasks_that_could_run_are_counted_again_at_each_call():
    load = Load()
    first = load()
    spinner = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        assert first >= 1, "whoever asks is running"
        wait_for(lambda: load() >= 2)
    finally:
        spinner.kill()
        spinner.wait()
