"""Real-time priority for the daemon, for as long as others keep it from the CPU: a process of its own, a fork of the
warden's.

Where tasks are grouped (control groups, or sched_autogroup's group for each session), some kernels let a group whose
tasks switch all the time run for tens of seconds on end, whatever the weight of the others: on Linux 6.18 a storm of
context switches leaves a daemon of nice -15 not one slice, and it is explained when all is over. The real-time class is
above that. The daemon cannot see that it starves while it does, so a process looks that is itself in that class, and
does nothing else: where real-time tasks hold all cores, the warden must stay among the ordinary ones, for which the
kernel keeps a share of each second back (sched(7), sched_rt_runtime_us). It acts on proof, with the lowest priority,
for half a minute at a time, within a budget of CPU time, and nowhere without that share. What the daemon started at a
positive nice value stays where it is.

Standard library only.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

CALM_S, LOOK_S = 2.0, 1.0
"""Between two looks: while there is a core for every task, and while tasks wait for one."""
CLOSELY_S = 3.0
"""So often each thread is looked at while tasks wait for a CPU, besides whenever the daemon as a whole got none for a
second: that takes two milliseconds, all else a fiftieth of one."""
STARVED = 0.8
"""Part of the time between two such looks that a thread waited for a CPU."""
HOLD_S = 30.0
"""Then the daemon is ordinary again, and it is seen whether it still starves."""
BUDGET_S = 10.0
"""CPU time that the daemon may take within HOLD_S; an explanation takes one or two seconds."""
PAUSE_S = 60.0
"""After it took more than that."""
PRIORITY = 1
MOST_TASKS = 256
_PR_SET_PDEATHSIG = 1


class Task:
    """One thread. run_ns: CPU time so far, wait_ns: for it, slices: times that it got a CPU; running: or able to."""

    __slots__ = ("run_ns", "running", "slices", "wait_ns")

    def __init__(self, run_ns: int, wait_ns: int, slices: int, running: bool) -> None:
        self.run_ns, self.wait_ns, self.slices, self.running = run_ns, wait_ns, slices, running

    def starves(self, before: Task, seconds: float) -> bool:
        """Whether it waited nearly all the time since `before`: the kernel adds a wait up when it ends."""
        if self.slices == before.slices:
            return self.running and before.running and self.run_ns == before.run_ns
        return self.wait_ns - before.wait_ns >= STARVED * seconds * 1e9


def watch(pid: int) -> int:
    """Starts the process that looks after a daemon, and after us, who answer it; returns its pid. It ends with us."""
    us = os.getpid()
    if child := os.fork():
        return child
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        os.closerange(3, 1024)
        guard = Guard(pid, us)
        while guard.able and os.getppid() == us:
            guard.look()
            time.sleep(CALM_S if guard.calm else LOOK_S)
    finally:
        os._exit(0)


class Guard:
    """Looks after one daemon, see the module; warden: who is put before others with it, 0 = nobody.

    now: seconds of a steady clock; runnable: tasks that could run.
    """

    def __init__(self, pid: int, warden: int = 0, now: Callable[[], float] = time.monotonic,
                 runnable: Callable[[], int] | None = None) -> None:
        self._pid, self._warden, self._now, self._runnable = pid, warden, now, runnable or Load()
        self._cores = os.cpu_count() or 1
        self._seen: dict[int, Task] = {}
        self._seen_s = self._pause_s = self._until_s = 0.0
        self._spent_ns = 0
        self._ticks = -1
        self.raised = self.calm = False
        self.able = pid > 0 and bounded() and put(0, True)

    def look(self) -> None:
        """Call once a second, half as often while `calm`."""
        now = self._now()
        if not self.able or now < self._pause_s:
            return
        self.calm = not self.raised and self._runnable() <= self._cores
        if self.calm:
            self._seen = {}
            return
        ticks, self._ticks = self._ticks, ticks_of(self._pid)
        if not self.raised and self._seen and self._ticks > ticks and now - self._seen_s < CLOSELY_S:
            return
        tasks = {number: task for number in tasks_of(self._pid) if (task := read(number))}
        passed_s = now - self._seen_s
        if self.raised:
            self._hold(now, tasks)
        elif any(task.starves(self._seen[n], passed_s) for n, task in tasks.items() if n in self._seen):
            self._raise(now, tasks)
        self._seen, self._seen_s = tasks, now

    def _raise(self, now: float, tasks: dict[int, Task]) -> None:
        self._until_s, self._spent_ns, self.raised = now + HOLD_S, _spent(tasks), True
        print(f"etio warden: the daemon is kept from the CPU: real-time priority for {HOLD_S:g} s", file=sys.stderr)
        self._put(tasks, True)

    def _hold(self, now: float, tasks: dict[int, Task]) -> None:
        """Threads and children may have come; time or budget may be over."""
        dear = _spent(tasks) - self._spent_ns > BUDGET_S * 1e9
        self.raised = now < self._until_s and not dear
        if dear:
            self._pause_s = now + PAUSE_S
        self._put(tasks, self.raised)

    def _put(self, tasks: dict[int, Task], urgent: bool) -> None:
        for number in (*tasks, *([self._warden] if self._warden else ())):
            put(number, urgent)


def _spent(tasks: dict[int, Task]) -> int:
    return sum(task.run_ns for task in tasks.values())


def put(task: int, urgent: bool) -> bool:
    """Puts a thread (0 = ours) into the real-time class or back; whether it is there now."""
    try:
        urgent = urgent and os.getpriority(os.PRIO_PROCESS, task) <= 0
        policy = os.SCHED_RR if urgent else os.SCHED_OTHER
        if os.sched_getscheduler(task) != policy:
            os.sched_setscheduler(task, policy, os.sched_param(PRIORITY if urgent else 0))
    except OSError:
        return False
    return urgent


def tasks_of(pid: int) -> list[int]:
    """Threads of a process and of its child processes, those of another user left out; at most MOST_TASKS."""
    own, owner = _threads(pid), _user(pid)
    children = [child for thread in own for child in _children(pid, thread) if _user(child) == owner]
    return [*own, *(thread for child in children for thread in _threads(child))][:MOST_TASKS]


def _threads(pid: int) -> list[int]:
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return []


def _children(pid: int, thread: int) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
            return [int(one) for one in file.read().split()]
    except OSError:
        return []


def _user(pid: int) -> int:
    """Effective user of a process; -1 where it is gone."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            return int(file.read().partition("\nUid:")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return -1


def read(task: int) -> Task | None:
    """A thread now; None where it is gone, or the kernel does not tell."""
    try:
        with open(f"/proc/{task}/schedstat", encoding="ascii") as file:
            run, wait, slices = map(int, file.read().split())
        with open(f"/proc/{task}/stat", encoding="utf-8", errors="replace") as file:
            state = file.read().rpartition(") ")[2][:1]
    except (OSError, ValueError):
        return None
    return Task(run, wait, slices, state == "R")


def ticks_of(pid: int) -> int:
    """CPU time of a process so far, all threads, in the kernel's ticks; -1 where it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(") ")[2].split()
        return int(fields[11]) + int(fields[12])
    except (OSError, IndexError, ValueError):
        return -1


class Load:
    """Tasks of the host that run or could; /proc/loadavg kept open, for it is read for ever."""

    def __init__(self) -> None:
        self._fd = os.open("/proc/loadavg", os.O_RDONLY | os.O_CLOEXEC)

    def __call__(self) -> int:
        """Now. Raises OSError."""
        return int(os.pread(self._fd, 64, 0).split()[3].partition(b"/")[0])

    def __del__(self) -> None:
        os.close(self._fd)


def bounded() -> bool:
    """Whether the kernel keeps a share of each CPU's time back from the real-time class."""
    try:
        with open("/proc/sys/kernel/sched_rt_runtime_us", encoding="ascii") as file:
            return int(file.read()) >= 0
    except (OSError, ValueError):
        return False
