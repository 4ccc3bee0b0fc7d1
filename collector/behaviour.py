"""Behaviour: programs, units, users, listening ports, modules and who starts whom, against what is usual here.

Reads:  the process tables that the daemon makes anyway (Behaviour.take); listening sockets (collector.listeners);
        /proc/modules; /proc/PID/exe of processes that use much CPU and are new (through the warden where there is one)
Emits:  behaviour_novelties_untold; events behaviour_new, behaviour_suspect
Needs:  an hour to learn (setting learn_s); until then it is silent
Source: proc_pid_exe(5), sock_diag(7), proc_modules(5)

What is new is evidence and pages nobody: a deployment is full of novelties. Only a program that computes while its file
is deleted, lies in shared memory or exists in memory alone is worth a look by itself.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from collector.cgroup_files import shown, slurp
from collector.listeners import Listening, listeners
from collector.table import Column, Fixed, emits
from collector.table_watcher import TableWatcher
from etio.core.due import is_due
from etio.core.event import HostEvent
from etio.core.facts import Process, ProcessTable
from etio.core.frame import NS, Reading
from etio.core.habits import Habits, HabitsConfig, common
from etio.core.ports import CollectorSpec

UNTOLD = Column("behaviour_novelties_untold", "1", "gauge", "novelties left out because there were too many of a kind")
KTHREADD = 2
EPHEMERAL = 32768
"""Ports from here on are given out by the kernel; nobody chose them."""
SHELLS = frozenset(("sh", "bash", "dash", "zsh", "fish", "ksh", "ash", "sudo", "su", "login", "sshd", "cron", "tmux",
                    "screen", "make", "ninja", "python", "python3", "perl", "node", "java", "git", "timeout", "xargs"))
"""Programs that start whatever they are told to: what they start is no habit of theirs."""
COLLECT_NS = 4_500_000_000
"""Tables come each second while something is wrong: who hides its file is looked for in each, habits need no haste."""
OTHERS_NS = 15_000_000_000
"""Ports and modules are listed so often: half a millisecond each time."""
BRIEF_S = 3.0
"""A program in a place where everybody may write must have computed for so long before it is told."""
WORDS = {"program": "program", "unit": "unit", "user": "user id", "port": "listening port", "module": "kernel module",
         "child": "start"}

ExeOf = Callable[[int], str]


@dataclass(frozen=True, slots=True)
class Config:
    """learn_s, most, forget_s, per_hour: as in etio.core.habits. busy_cores: CPU of a program that is looked at."""

    learn_s: float = 3600.0
    most: int = 2000
    forget_s: float = 30 * 86_400.0
    per_hour: int = 6
    busy_cores: float = 0.25

    def __post_init__(self) -> None:
        self.habits()
        if self.busy_cores <= 0:
            raise ValueError("busy_cores must be above 0")

    def habits(self) -> HabitsConfig:
        """The settings of the model itself."""
        return HabitsConfig(self.learn_s, self.most, self.forget_s, self.per_hour)


def port_names(found: Iterable[Listening]) -> set[str]:
    """Listening sockets as "port 80", "port 5432 (loopback)"; those that the kernel chose are all one."""
    named = {(f"port {one.port}" if one.port < EPHEMERAL else f"a port above {EPHEMERAL - 1}", one.loopback)
             for one in found}
    return {f"{name} (loopback)" if local else name for name, local in named}


def parse_modules(raw: bytes) -> set[str]:
    """Names of loaded modules. Never raises."""
    return {shown(line.split(" ", 1)[0])[:60] for line in raw.decode("utf-8", "replace").splitlines() if line.strip()}


def program_of(process: Process) -> str:
    """What a process runs, without numbers: the path it was started by, else its name."""
    first = process.cmdline.split(" ", 1)[0]
    return common(first if first.startswith("/") else process.comm)


def suspicious(path: str) -> str:
    """Why a program's file is odd, in words; "" where it is not.

    >>> suspicious("/dev/shm/x"), suspicious("/usr/bin/nginx (deleted)"), suspicious("/tmp/a (deleted)")
    ('it lies in shared memory', '', 'its file was deleted')
    """
    if path.startswith("/memfd:"):
        return "it exists in memory only"
    if path.startswith("/dev/shm/"):
        return "it lies in shared memory"
    writable = path.startswith(("/tmp/", "/var/tmp/"))
    return "its file was deleted" if writable and path.endswith(" (deleted)") else ""


class Behaviour(TableWatcher):
    """Collector of novelties. exe_of: the way to the file of another user's process; set by the daemon."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self._config = config
        self._habits = Habits(config.habits())
        self._fixed = Fixed([UNTOLD.series()])
        self._before: dict[tuple[int, float], tuple[int, float]] = {}
        self._next_ns = self._others_ns = 0
        self._judged: dict[tuple[int, float], bool] = {}
        self.exe_of: ExeOf | None = None

    def collect(self, t_ns: int) -> Reading:
        """One reading; events for what is new."""
        if self._table is None or not self._fresh:
            return self._fixed.reading([float(self._habits.untold)])
        self._fresh = False
        events = [*self._suspects(self._table, t_ns)]
        if is_due(t_ns, self._next_ns, 2 * COLLECT_NS):
            self._next_ns = t_ns + COLLECT_NS
            events += self._novelties(self._table, t_ns)
        if is_due(t_ns, self._others_ns, 2 * OTHERS_NS):
            self._others_ns = t_ns + OTHERS_NS
            events += self._others(t_ns)
        return self._fixed.reading([float(self._habits.untold)], None, tuple(events))

    def close(self) -> None:
        """What was learned is kept."""

    def snapshot(self) -> dict[str, Any]:
        """What was learned, as plain values."""
        return self._habits.snapshot()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes a snapshot back. Raises Broken where it is none."""
        self._habits.restore(state)

    def _novelties(self, table: ProcessTable, t_ns: int) -> Iterator[HostEvent]:
        people = [p for p in table.processes if KTHREADD not in (p.pid, p.ppid)]
        by_pid = {p.pid: p for p in people}
        who: dict[str, Process] = {}
        for one in people:
            who.setdefault(program_of(one), one)
        yield from self._new("program", who, t_ns, who)
        yield from self._new("unit", {common(p.unit) for p in people if p.unit}, t_ns)
        yield from self._new("user", {str(p.uid) for p in people if 0 <= p.uid < 60_000}, t_ns)
        pairs = {f"{common(by_pid[p.ppid].comm)} starts {common(p.comm)}": p for p in people
                 if p.ppid in by_pid and p.ppid > 1 and by_pid[p.ppid].comm not in SHELLS and
                 by_pid[p.ppid].comm != p.comm}
        yield from self._new("child", pairs, t_ns, pairs)

    def _others(self, t_ns: int) -> list[HostEvent]:
        ports = port_names(listeners(self._proc))
        modules = parse_modules(slurp(f"{self._proc}/modules", 1 << 18) or b"")
        return [*self._new("port", ports, t_ns), *self._new("module", modules, t_ns)]

    def _new(self, kind: str, names: Iterable[str], t_ns: int, who: Mapping[str, Process] | None = None,
             ) -> Iterator[HostEvent]:
        for name in self._habits.see(kind, tuple(names), t_ns):
            told = shown(name).replace(",", "?").replace("=", "?")
            one = (who or {}).get(name)
            what = f"{WORDS[kind]} {told}" + (f" (pid {one.pid})" if one else "")
            yield HostEvent(t_ns, "behaviour_new", f"{kind}={told}", (("what", what),), "process tables, /proc")

    def _suspects(self, table: ProcessTable, t_ns: int) -> Iterator[HostEvent]:
        """Programs that compute while their file is hidden. Each process is judged once, by the path of its file."""
        before, self._before = self._before, {}
        for one in table.processes:
            key = (one.pid, one.start_s)
            self._before[key] = (table.t_ns, one.cpu_seconds)
            then = before.get(key)
            if then is None or key in self._judged or one.cpu_seconds < BRIEF_S or table.t_ns <= then[0]:
                continue
            if (one.cpu_seconds - then[1]) / ((table.t_ns - then[0]) / NS) < self._config.busy_cores:
                continue
            path = self._exe(one.pid)
            why = suspicious(path)
            self._judged[key] = bool(why)
            if why:
                yield _suspect(one, path, why, t_ns)
        self._judged = {key: odd for key, odd in self._judged.items() if key in self._before}

    def _exe(self, pid: int) -> str:
        try:
            return os.readlink(f"{self._proc}/{pid}/exe")
        except PermissionError:
            return self.exe_of(pid) if self.exe_of is not None else ""
        except OSError:
            return ""


def _suspect(one: Process, path: str, why: str, t_ns: int) -> HostEvent:
    told = shown(path)[:100]
    return HostEvent(t_ns, "behaviour_suspect", f"pid={one.pid}", (
        ("comm", one.comm), ("what", f"{told}: {why}"), ("cgroup", one.cgroup), ("unit", one.unit), ("uid", one.uid)),
        "/proc/PID/exe")


COLLECTOR = CollectorSpec(
    name="behaviour", config=Config, build=Behaviour,
    reads="process tables, listening sockets, /proc/modules, /proc/PID/exe of a few", emits=emits((UNTOLD,)),
    source="proc_pid_exe(5), sock_diag(7)", optional=True,
)
