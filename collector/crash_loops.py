"""Crash loops: programs that end by an error and are started again, with or without systemd.

Reads:  the tables that the daemon makes anyway: processes (CrashLoops.take) and, with eBPF, failures by command and
        parent (CrashLoops.take_actors); crashes in the kernel log and restarts that systemd counted (take_event)
Emits:  events crash_loop, crash_loop_over
Needs:  eBPF or systemd; without both, crashes that the kernel logs
Source: systemd.service(5): Restart=; signal(7); kernel/exit.c

Four ways to see it: processes of one command and parent that end by a fault or with a status other than 0; services
that systemd started again by itself (NRestarts), or where it cannot be asked, the main process of a unit (its parent is
process 1) that is another one in each table; crashes of one command in the kernel log.
A shell that tries a command until it works is no crash loop, so tools that scripts wait with do not count. Nor is a
helper whose status is an answer to a program that calls others as well: dpkg asks dpkg-split of each package whether it
is a part of one, and "no" is status 1.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from collector.behaviour import SHELLS
from collector.cgroup_files import shown
from collector.table import Fixed
from etio.core.errors import NoData
from etio.core.event import Field, HostEvent
from etio.core.facts import ActorTable, Process, ProcessTable
from etio.core.frame import NS, Reading
from etio.core.ports import CollectorSpec

TOOLS = SHELLS | frozenset((
    "grep", "egrep", "test", "[", "curl", "wget", "nc", "ncat", "ping", "pgrep", "pidof", "pg_isready", "mysqladmin",
    "redis-cli", "systemctl", "ssh", "scp", "flock", "find", "diff", "cmp", "stat", "ls", "cat", "kill", "host", "dig",
    "nslookup", "which", "expr", "false", "sleep", "docker", "kubectl", "gcc", "cc", "cc1", "cc1plus", "ld", "collect2",
    "conftest", "as", "id", "ip", "nft", "iptables", "mount", "umount", "modprobe", "apt-get", "dpkg", "rpm", "jq",
    "sed", "awk", "mountpoint", "cp", "mv", "rm", "mkdir", "rmdir", "readlink", "pytest", "bats", "tar", "rsync"))
"""Programs whose failure is an answer, not an accident."""
WINDOW_NS = 60 * NS
QUIET_NS = 30 * NS
SPAN_NS = 5 * NS
"""A loop goes on for at least so long; a burst of workers that die together is an accident of one moment."""
SIGNALS, STATUSES, MAINS = 3, 6, 3
"""Least ends by a fault, ends with an error, and new main processes of a unit, within the window."""
SHARE = 0.7
"""Of the starts of a command at least so many must fail."""
HELPERS = 1.5
"""A parent that starts other programs so many times as often does not keep this one running, it asks it something."""
SIGNAL = {
    "SIGABRT": "it gave up by itself: an assertion, an exception that nobody caught",
    "SIGBUS": "a file that it has mapped is shorter than what it reads of it, or its disk fails",
    "SIGFPE": "a division by zero",
    "SIGILL": "an instruction that this CPU does not have",
    "SIGSEGV": "memory that is not its own",
    "SIGSYS": "a system call that its filter forbids",
}
STATUS = {"status 126": " (a program that cannot be executed)",
          "status 127": " (a program or a library that is not there)"}
"""What a signal, or a status by convention, means."""
Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Config:
    """programs: most programs that are followed at once."""

    programs: int = 200

    def __post_init__(self) -> None:
        if self.programs < 1:
            raise ValueError("programs must be at least 1")


@dataclass(slots=True)
class _Ends:
    """What is known of one program: command and parent, or the main process of a unit.

    moments: (t_ns, ends, of them by a fault).
    """

    comm: str
    unit: str = ""
    ppid: int = 0
    process: Process | None = None
    parent: Process | None = None
    moments: list[tuple[int, float, float]] = field(default_factory=list)
    told: str = ""
    counted: bool = False
    """Whether systemd itself has counted the ends."""
    ended: str = ""
    """How the last one ended: in systemd's words, or the signal or status."""

    def add(self, t_ns: int, ends: float, faults: float) -> None:
        self.moments = [m for m in self.moments if t_ns - m[0] <= WINDOW_NS] + [(t_ns, ends, faults)]

    def alive(self, t_ns: int) -> bool:
        """Whether it is still of interest."""
        return bool(self.told) or t_ns - self.moments[-1][0] <= WINDOW_NS

    def total(self, t_ns: int) -> tuple[float, float, int]:
        """(ends, of them by a fault, time from the first to the last) within the window."""
        lately = [m for m in self.moments if t_ns - m[0] <= WINDOW_NS]
        span = lately[-1][0] - lately[0][0] if lately else 0
        return sum(m[1] for m in lately), sum(m[2] for m in lately), span


class CrashLoops:
    """Collector of crash loops. Not thread-safe: everything is called by the sampler."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._fixed = Fixed(())
        self._ends: dict[Key, _Ends] = {}
        self._mains: dict[str, _Ends] = {}
        self._main_of: dict[str, tuple[int, float]] = {}
        self._starts: dict[str, list[tuple[int, float, int]]] = {}
        """By command: moment, how many, and by whom the last one."""
        self._processes: dict[int, Process] = {}
        self._by_comm: dict[str, Process] = {}
        self._now_ns = 0
        self.systemd: Callable[[], bool] = lambda: False
        """Whether systemd counts for us now: what a person restarts is then no loop. Set by the daemon."""

    def open(self, root: Path) -> None:
        """Raises NoData where there is no /proc."""
        if not (root / "proc").is_dir():
            raise NoData(f"{root}/proc: not here")

    def take(self, table: ProcessTable) -> ProcessTable:
        """Follows the main processes of units; gives the table back for chaining."""
        self._processes = {p.pid: p for p in table.processes}
        self._by_comm = {p.comm: p for p in table.processes}
        mains = {p.unit: p for p in reversed(table.processes) if p.ppid == 1 and p.unit.endswith(".service")}
        for unit, process in mains.items():
            key, known = (process.pid, process.start_s), self._main_of.get(unit)
            self._main_of[unit] = key
            if known is not None and known != key and not self.systemd():
                self._mains.setdefault(unit, _Ends(process.comm, unit)).add(table.t_ns, 1.0, 0.0)
            one = self._mains.get(unit)
            if one is not None:
                one.process = process
                one.comm = one.comm if one.told else process.comm  # its end is told by the name of its begin
        if len(self._main_of) > 4 * self._config.programs:
            self._main_of = {u: k for u, k in self._main_of.items() if u in mains}
        return table

    def take_actors(self, table: ActorTable | None) -> ActorTable | None:
        """Counts failures and starts by command; gives the table back for chaining."""
        for one in table.actors if table is not None else ():
            if one.kind == "exec" and table is not None:
                lately = [s for s in self._starts.get(one.name, ()) if table.end_ns - s[0] <= WINDOW_NS]
                self._starts[one.name] = [*lately, (table.end_ns, one.count, one.ppid)]
            elif one.kind == "failure" and table is not None and one.name not in TOOLS:
                self._add((one.name, one.ppid), table.end_ns, one.count, one.amount, one.unit)
        return table

    def take_event(self, event: HostEvent) -> None:
        """Counts restarts by systemd, and where nobody counts failures a crash in the kernel log."""
        if event.kind == "unit_restarts":
            self._restarted(str(event.get("unit")), event)
        if event.kind == "segfault" and not self._starts:
            self._add((str(event.get("comm")), 0), event.t_ns, 1.0, 1.0, "")

    def collect(self, t_ns: int) -> Reading:
        """Events for loops that were found or are over; no series."""
        self._now_ns = t_ns
        events = [e for (comm, _), ends in self._ends.items() for e in self._judge(comm, ends, t_ns, self._is_loop)]
        events += [e for unit, ends in self._mains.items() for e in self._judge(unit, ends, t_ns, _is_unit_loop)]
        self._ends = {k: e for k, e in self._ends.items() if e.alive(t_ns)}
        self._mains = {u: e for u, e in self._mains.items() if e.alive(t_ns)}
        self._starts = {n: s for n, s in self._starts.items() if t_ns - s[-1][0] <= WINDOW_NS}
        return self._fixed.reading([], None, tuple(events))

    def close(self) -> None:
        """May be called twice."""
        self._ends, self._mains = {}, {}

    def _restarted(self, unit: str, event: HostEvent) -> None:
        if unit not in self._mains and len(self._mains) >= self._config.programs:
            return
        one = self._mains.setdefault(unit, _Ends("", unit))
        if not one.counted:
            one.moments, one.counted = [], True
        count = event.get("restarts")
        seen_ns = max(event.t_ns, self._now_ns)  # a look at systemd may take long on a starved host
        one.add(seen_ns, float(count) if isinstance(count, (int, float)) else 0.0, 0.0)
        one.ended = str(event.get("ended") or "") or one.ended

    def _add(self, key: Key, t_ns: int, ends: float, faults: float, ended: str) -> None:
        comm, ppid = key
        if key not in self._ends and len(self._ends) >= self._config.programs:
            return
        one = self._ends.setdefault(key, _Ends(comm, ppid=ppid))
        one.add(t_ns, ends, faults)
        one.ended = ended
        one.parent = self._processes.get(ppid) or one.parent
        mine = self._by_comm.get(comm)
        one.process = mine or one.process

    def _is_loop(self, ends: _Ends, t_ns: int) -> bool:
        count, faults, span = ends.total(t_ns)
        if span < SPAN_NS:
            return False
        if faults >= SIGNALS:
            return True
        starts = sum(n for t, n, _ in self._starts.get(ends.comm, ()) if t_ns - t <= WINDOW_NS)
        if self._others(ends, t_ns) >= HELPERS * count:
            return False
        # only the busiest commands are counted: without its starts, more failures are asked for
        return count >= STATUSES and count >= SHARE * starts if starts else count >= 2 * STATUSES

    def _others(self, ends: _Ends, t_ns: int) -> float:
        """How often its parent has started other programs lately, without the tools that scripts wait with."""
        if not ends.ppid:
            return 0.0
        return sum(n for comm, starts in self._starts.items() if comm != ends.comm and comm not in TOOLS
                   for t, n, ppid in starts if ppid == ends.ppid and t_ns - t <= WINDOW_NS)

    def _judge(self, name: str, ends: _Ends, t_ns: int, is_loop: Callable[[_Ends, int], bool],
               ) -> Iterator[HostEvent]:
        if not ends.told and is_loop(ends, t_ns):
            ends.told = _label(name, ends)
            source = "systemd (D-Bus)" if ends.counted else "eBPF process, /proc"
            yield HostEvent(t_ns, "crash_loop", f"program={ends.told}", _fields(ends, t_ns), source)
        elif ends.told and t_ns - ends.moments[-1][0] > QUIET_NS:
            yield HostEvent(t_ns, "crash_loop_over", f"program={ends.told}", (("comm", ends.comm),), "eBPF process")
            ends.told, ends.moments = "", [(ends.moments[-1][0], 0.0, 0.0)]  # what was told counts no more


def _is_unit_loop(ends: _Ends, t_ns: int) -> bool:
    count, _, span = ends.total(t_ns)
    return count >= MAINS and (ends.counted or span >= SPAN_NS)


def _unit(ends: _Ends) -> str:
    process = ends.process
    return ends.unit or (process.unit if process is not None and process.ppid == 1 else "")


def _label(name: str, ends: _Ends) -> str:
    return shown(_unit(ends) or name).replace(",", "?").replace("=", "?")[:120]


def _fields(ends: _Ends, t_ns: int) -> tuple[tuple[str, Field], ...]:
    count, faults, span = ends.total(t_ns)
    place = ends.process or ends.parent
    return (("comm", ends.comm), ("starts", int(count)), ("seconds", round(max(span / NS, 1.0), 1)),
            ("how", _how(ends, count, faults)), ("unit", _unit(ends)), ("cgroup", place.cgroup if place else ""),
            ("pid", ends.process.pid if ends.process else 0))


def _how(ends: _Ends, count: float, faults: float) -> str:
    """How it ends and who starts it again, in words."""
    if ends.counted:
        return ends.ended
    if ends.unit:
        return "the main process of the unit is another one each time"
    meant = f" ({SIGNAL[ends.ended]})" if ends.ended in SIGNAL else ""
    named = ends.ended + meant if ends.ended.startswith("SIG") else "a fault such as SIGSEGV or SIGABRT"
    told = f"by {named}" if faults == count else f"{faults:.0f} of them by {named}" if faults else (
        f"with {ends.ended}{STATUS.get(ends.ended, '')}" if ends.ended.startswith("status") else "with an error status")
    parent = ends.parent
    return told if parent is None else f"{told}; {shown(parent.comm)[:40]} (pid {parent.pid}) starts it again"


COLLECTOR = CollectorSpec(
    name="crash_loops", config=Config, build=CrashLoops, reads="process tables, failures counted by eBPF, kernel log",
    emits=(), source="systemd.service(5), signal(7)", optional=True,
)
