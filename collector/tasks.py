"""Tasks that sleep where no signal reaches them, zombies, and how many processes and threads there are.

Reads:  the process tables that the daemon makes anyway (TaskStates.take); /proc/PID/task/TID/status of the few that
        were seen in state D, once a second; /proc/PID/task/*/stat of a few threads a second, in turn
Emits:  task_uninterruptible, task_zombies, task_threads, task_processes, task_stuck_seconds_max
Needs:  a warden for the kernel stack of a stuck task; without one only /proc/PID/wchan, of our own user's processes
Source: proc_pid_stat(5), proc_pid_status(5); kernel/hung_task.c: a task hangs when its count of context switches
        stands still while it is uninterruptible

State D alone means little: whoever writes much is in it at most looks. Only a task that did not run once between two
looks is stuck; each context switch starts its time anew. Kernel threads are counted but never called stuck: some idle
in D. Neither are processes that wait for a vfork() child, or whose control group is frozen (v1 freezer).
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from collector.cgroup_files import slurp
from collector.table import NAN, Column, Fixed, emits
from etio.core.errors import Broken, NoData
from etio.core.facts import Process, ProcessTable
from etio.core.frame import NS, Reading
from etio.core.ports import CollectorSpec

COLUMNS = (
    Column("task_uninterruptible", "1", "gauge", "processes in uninterruptible sleep (state D), kernel threads too"),
    Column("task_zombies", "1", "gauge", "dead processes that nobody has collected"),
    Column("task_threads", "1", "gauge", "threads of all processes"),
    Column("task_processes", "1", "gauge", "processes"),
    Column("task_stuck_seconds_max", "seconds", "gauge",
           "longest time that a task was seen uninterruptible without running once"),
)
KTHREADD = 2
INNOCENT = frozenset(("wait_for_vfork_done", "kernel_clone", "_do_fork", "__refrigerator"))
"""Innermost kernel functions of tasks that wait in D by design."""
DEPTH = 6
"""Frames of a stack that are told."""
STALE = 3.0
"""Figures of the last table are given up after so many times the pause between two tables, at least 15 s."""
_STATE = re.compile(rb"^State:\s+(\S)", re.MULTILINE)
_SWITCHES = re.compile(rb"^(?:non)?voluntary_ctxt_switches:\s+(\d{1,20})$", re.MULTILINE)

Stack = Callable[[int], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Config:
    """watched: most tasks in state D that are followed at once. threads_per_look: most threads looked at in a reading
    to find sleepers among the threads of a process; 0 = only processes as a whole. named_after_s: a task that is stuck
    for so long is asked what it waits for. named: most of them told in a report."""

    watched: int = 64
    threads_per_look: int = 16
    named_after_s: float = 2.0
    named: int = 4

    def __post_init__(self) -> None:
        if self.watched < 1 or self.threads_per_look < 0 or self.named < 0:
            raise ValueError("watched must be at least 1, threads_per_look and named at least 0")


@dataclass(frozen=True, slots=True)
class Stuck:
    """A task that has not run for `seconds`. stack: kernel functions, innermost first; empty where unreadable."""

    process: Process
    tid: int
    seconds: float
    stack: tuple[str, ...] = ()

    @property
    def fact(self) -> tuple[str, str]:
        """For Facts.extra: ("stuck pid=N comm=X", "innermost function; the stack; how long")."""
        frames = " < ".join(self.stack[:DEPTH])
        thread = f"thread {self.tid}; " if self.tid != self.process.pid else ""
        told = f"{self.stack[0]}; {frames}" if self.stack else "unknown; kernel stack not readable"
        return f"stuck pid={self.process.pid} comm={self.process.comm}", f"{told}; {thread}{self.seconds:.0f} s"


@dataclass(slots=True)
class _Watch:
    """One task that was seen in state D. since_ns: first sight of it with this count of context switches."""

    process: Process
    tid: int
    since_ns: int
    switches: int = -1
    stack: tuple[str, ...] | None = None


def parse_status(raw: bytes) -> tuple[str, int]:
    """(state letter, context switches so far) of a /proc/PID/status. Raises Broken where either is missing."""
    state, switches = _STATE.search(raw), _SWITCHES.findall(raw)
    if state is None or not switches:
        raise Broken("/proc/PID/status: no state, or no count of context switches")
    return state[1].decode("latin-1"), sum(map(int, switches))


def state_of(raw: bytes) -> str:
    """State letter of a /proc/PID/stat; "" where it has none (the name may hold anything, also parentheses)."""
    rest = raw[raw.rfind(b")") + 1:].split(None, 1) if b")" in raw else []
    return rest[0].decode("latin-1") if rest else ""


class TaskStates:
    """Collector of task states. Not thread-safe but for stuck() and facts(), which any thread may call.

    stack: the way to the kernel stack of a task, by its id; set by the daemon where it has a warden.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._fixed = Fixed([c.series() for c in COLUMNS])
        self._proc = ""
        self._table: ProcessTable | None = None
        self._pause_ns = 0
        self._counts = [NAN] * 4
        self._watched: dict[int, _Watch] = {}
        self._threads: Iterator[tuple[Process, int]] = iter(())
        self._stuck: tuple[Stuck, ...] = ()
        self.stack: Stack | None = None

    def open(self, root: Path) -> None:
        """Raises NoData where there is no /proc."""
        self._proc = str(root).rstrip("/") + "/proc"
        if not os.path.isdir(self._proc):
            raise NoData(f"{self._proc}: not here")

    def take(self, table: ProcessTable) -> ProcessTable:
        """Counts a process table that somebody made, and follows those in state D; gives it back for chaining."""
        if self._table is not None:
            self._pause_ns = table.t_ns - self._table.t_ns
        self._table = table
        states = [p.state for p in table.processes]
        self._counts = [float(n) for n in (
            states.count("D"), states.count("Z"), sum(p.threads for p in table.processes), len(states))]
        for process in table.processes:
            if process.state == "D":
                self._watch(process, process.pid, table.t_ns)
        return table

    def collect(self, t_ns: int) -> Reading:
        """One reading: counts of the newest table, and how long the followed ones have been stuck by now."""
        if self._table is None:
            return self._fixed.reading([NAN] * len(COLUMNS))
        self._look_at_threads(t_ns)
        held = [w for w in list(self._watched.values()) if self._still(w, t_ns)]
        self._name([w for w in held if t_ns - w.since_ns >= self._config.named_after_s * NS])
        found = [_stuck(w, t_ns) for w in held if not _innocent(w)]
        self._stuck = tuple(sorted((s for s in found if s.seconds > 0), key=lambda s: -s.seconds))
        if t_ns - self._table.t_ns > max(15 * NS, STALE * self._pause_ns):
            return self._fixed.reading([NAN] * len(COLUMNS))
        return self._fixed.reading([*self._counts, self._stuck[0].seconds if self._stuck else 0.0])

    def stuck(self) -> tuple[Stuck, ...]:
        """Tasks that did not run since an earlier look, longest first."""
        return self._stuck

    def facts(self) -> tuple[tuple[str, str], ...]:
        """The longest stuck, as pairs for Facts.extra; those whose stack is known first."""
        return tuple(s.fact for s in sorted(self._stuck, key=lambda s: not s.stack)[:self._config.named])

    def close(self) -> None:
        """May be called twice."""
        self._watched, self._stuck, self._threads = {}, (), iter(())

    def _watch(self, process: Process, tid: int, t_ns: int) -> None:
        kernel = KTHREADD in (process.pid, process.ppid)
        if not kernel and tid not in self._watched and len(self._watched) < self._config.watched:
            self._watched[tid] = _Watch(process, tid, t_ns)

    def _still(self, watch: _Watch, t_ns: int) -> bool:
        """Looks at a followed task: False where it is gone or awake; its time starts anew where it ran."""
        raw = slurp(f"{self._proc}/{watch.process.pid}/task/{watch.tid}/status", 8192)
        try:
            state, switches = parse_status(raw or b"")
        except Broken:
            state, switches = "", 0
        if state != "D":
            del self._watched[watch.tid]
            return False
        if switches != watch.switches:
            # At the first look nothing is known of the time before it, so the time starts there as well.
            watch.switches, watch.since_ns, watch.stack = switches, t_ns, None
        return True

    def _look_at_threads(self, t_ns: int) -> None:
        """A table shows a process by its main thread, which sleeps peacefully while others hang; a few are looked at
        in each reading, so that all of them have their turn."""
        most = self._config.threads_per_look
        seen = list(islice(self._threads, most))
        if len(seen) < most and self._table is not None:
            self._threads = self._each_thread(self._table)
        for process, tid in seen:
            raw = slurp(f"{self._proc}/{process.pid}/task/{tid}/stat", 512)
            if raw and state_of(raw) == "D":
                self._watch(process, tid, t_ns)

    def _each_thread(self, table: ProcessTable) -> Iterator[tuple[Process, int]]:
        for process in table.processes:
            if process.threads > 1:
                try:
                    names = os.listdir(f"{self._proc}/{process.pid}/task")
                except OSError:
                    continue
                yield from ((process, int(n)) for n in names if n.isdigit() and int(n) != process.pid)

    def _name(self, watches: Sequence[_Watch]) -> None:
        """Asks for the stacks of those that were not asked yet, a few in each reading."""
        for watch in [w for w in watches if w.stack is None][:self._config.named]:
            frames = tuple(self.stack(watch.tid)) if self.stack is not None else ()
            watch.stack = frames or self._wait_channel(watch) or None  # the warden may be busy: ask again

    def _wait_channel(self, watch: _Watch) -> tuple[str, ...]:
        raw = slurp(f"{self._proc}/{watch.process.pid}/task/{watch.tid}/wchan", 128) or b""
        name = raw.decode("ascii", "replace").strip("\0\n ")
        return (name,) if name.isidentifier() else ()  # "0" where it may not be seen


def _innocent(watch: _Watch) -> bool:
    return bool(watch.stack) and watch.stack is not None and watch.stack[0] in INNOCENT


def _stuck(watch: _Watch, t_ns: int) -> Stuck:
    return Stuck(watch.process, watch.tid, max(0.0, (t_ns - watch.since_ns) / NS), watch.stack or ())


def watched(read: Callable[[int], ProcessTable], states: TaskStates) -> Callable[[int], ProcessTable]:
    """A reader of process tables whose tables `states` sees as well."""
    return lambda t_ns: states.take(read(t_ns))


COLLECTOR = CollectorSpec(
    name="tasks", config=Config, build=TaskStates,
    reads="process tables, /proc/PID/task/TID/{status,stat} of a few", emits=emits(COLUMNS),
    source="kernel/hung_task.c, proc_pid_status(5)", period_s=2.0,
)
