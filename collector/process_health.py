"""Processes at the end of their limits: open files and tasks against what they may have; zombies, stopped ones.

Reads:  the process tables that the daemon makes anyway (ProcessHealth.take); the size of /proc/PID/fd (one stat each,
        at most `looks` processes a table, in turn); /proc/PID/limits of those with many files, once a minute
Emits:  task_fds_used_ratio_max, task_fds_total, task_user_tasks_used_ratio_max, task_zombies_of_one_parent_max;
        events fds_exhausted, fds_released, user_tasks_exhausted, user_tasks_released, zombies_pile_up, zombies_gone,
        process_stopped, process_continued
Needs:  Linux 6.2 for the count of another user's files; before that only those of our own user are seen
Source: proc_pid_fd(5): since Linux 6.2 the size of the folder is the number of files; getrlimit(2), proc_pid_limits(5)

A ratio near 1 is told as an event of the process, because a series for each process would never end. Two looks must
agree: a process that opens many files for a moment is none of our business.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from collector.cgroup_files import slurp
from collector.table import NAN, Column, Fixed, emits
from collector.table_watcher import TableWatcher
from collector.task_limits import MANY, Program, add, limits_of, tightest
from etio.core.due import is_due
from etio.core.event import Field, HostEvent
from etio.core.facts import Process, ProcessTable
from etio.core.frame import NS, Reading
from etio.core.ports import CollectorSpec

COLUMNS = (
    Column("task_fds_used_ratio_max", "ratio", "gauge", "open files of a process over its limit, the highest"),
    Column("task_fds_total", "1", "gauge", "open files of all processes that were looked at"),
    Column("task_user_tasks_used_ratio_max", "ratio", "gauge", "tasks of a user over its RLIMIT_NPROC, the highest"),
    Column("task_zombies_of_one_parent_max", "1", "gauge", "dead children that one process has not collected"),
)
SOURCE = "/proc/PID/fd, /proc/PID/limits"
LIMITS_NS = 60 * NS
COUNT_NS = 3_500_000_000
"""Tables may come each second; files are counted less often, but for those near a limit."""
LASTING_NS = 4 * NS
"""Dead children that were not collected for so long will not be."""
SAMPLE = 16
"""So many dead children of a parent are looked at again."""
BACKGROUND = 10
"""Niceness of work that may wait: what nice(1) adds when it is told nothing."""
Fields = tuple[tuple[str, Field], ...]
Owners = Callable[[Sequence[int]], Mapping[int, int]]


@dataclass(frozen=True, slots=True)
class Config:
    """looks: most processes whose open files are counted for one table. full, low: shares of a limit at which it is
    told, and at which it is over. zombies: least dead children of one parent that are told."""

    looks: int = 512
    full: float = 0.95
    low: float = 0.85
    zombies: int = 50

    def __post_init__(self) -> None:
        if self.looks < 1 or self.zombies < 1 or not 0.0 < self.low < self.full <= 1.0:
            raise ValueError("looks and zombies must be at least 1, 0 < low < full <= 1")


def parse_listeners(raw: bytes) -> list[int]:
    """Inodes of the listening sockets of /proc/net/tcp or tcp6. Never raises."""
    rows = (line.split(None, 10) for line in raw.split(b"\n")[1:])
    return [int(row[9]) for row in rows if len(row) > 9 and row[3] == b"0A" and row[9].isdigit()]


@dataclass(slots=True)
class _Files:
    """One process with many files."""

    process: Process
    used: float
    most: float = NAN
    read_ns: int = 0
    hits: int = 0

    @property
    def ratio(self) -> float:
        return self.used / self.most if self.most > 0 else NAN


@dataclass(slots=True)
class _Dead:
    """A parent with many dead children. sample: some of them."""

    parent: Process
    sample: tuple[int, ...]
    since_ns: int
    count: int


@dataclass(slots=True)
class _Held:
    """What was told and lasts, with the event that will end it."""

    entity: str
    comm: str
    over: str


class ProcessHealth(TableWatcher):
    """Collector of processes near their limits. Not thread-safe: take() and collect() are called by the sampler.

    owners: pids by inode of a socket; set by the daemon.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self._config = config
        self._fixed = Fixed([c.series() for c in COLUMNS])
        self._next = self._next_ns = 0
        self._counts: dict[int, float] = {}
        self._many: dict[int, _Files] = {}
        self._zombies: dict[int, int] = {}
        self._dead: dict[int, _Dead] = {}
        self._stopped: dict[int, tuple[Process, int]] = {}
        self._asked: set[int] = set()
        self._told: dict[tuple[str, int], _Held] = {}
        self._users: float = NAN
        self.owners: Owners | None = None

    def collect(self, t_ns: int) -> Reading:
        """One reading; events for what was found or is over."""
        if self._table is None:
            return self._fixed.reading([NAN] * len(COLUMNS))
        events: list[HostEvent] = []
        if self._fresh:
            self._fresh = False
            self._see_zombies(self._table)
            self._see_stopped(self._table)
            if is_due(t_ns, self._next_ns, 2 * COUNT_NS):
                self._next_ns = t_ns + COUNT_NS
                self._count_files(self._table)
                events += self._user_events(self._table, t_ns)
        events += [*self._zombie_events(t_ns), *self._stopped_events(t_ns), *self._file_events(t_ns)]
        ratios = [f.ratio for f in self._many.values() if f.ratio == f.ratio]
        values = [max(ratios, default=NAN), sum(self._counts.values()) if self._counts else NAN, self._users,
                  float(max(self._zombies.values(), default=0))]
        return self._fixed.reading(values, None, tuple(events))

    def close(self) -> None:
        """May be called twice."""
        self._counts, self._many, self._told, self._dead = {}, {}, {}, {}
        self._stopped = {}

    def _count_files(self, table: ProcessTable) -> None:
        """Counts the open files of all processes, or of the next ones in turn where there are too many."""
        alive = [p for p in table.processes if p.state not in ("Z", "X") and p.rss_bytes > 0]
        if self._next >= len(alive):
            self._next = 0
        turn = alive[self._next:self._next + self._config.looks]
        self._next += len(turn)
        pids = {p.pid for p in alive}
        self._counts = {pid: n for pid, n in self._counts.items() if pid in pids}
        for process in turn:
            used = self._files_of(process.pid)
            self._counts[process.pid] = used
            known = self._many.get(process.pid)
            if known is not None and known.process.start_s != process.start_s:
                del self._many[process.pid]
            if used >= MANY and process.pid not in self._many:
                self._many[process.pid] = _Files(process, used)

    def _files_of(self, pid: int) -> float:
        """Number of open files; 0 where it cannot be seen."""
        folder = f"{self._proc}/{pid}/fd"
        try:
            size = os.stat(folder).st_size
            return float(size) if size else float(len(os.listdir(folder)))
        except OSError:
            return 0.0

    def _file_events(self, t_ns: int) -> Iterator[HostEvent]:
        for pid, files in list(self._many.items()):
            near = not files.ratio < 0.5 * self._config.full
            if near or files.read_ns == 0 or self._counts.get(pid, 0.0) > files.used:
                files.used = self._files_of(pid)
                self._counts[pid] = files.used
            else:
                files.used = self._counts.get(pid, 0.0)
            if not files.read_ns or not 0 <= t_ns - files.read_ns < LIMITS_NS:
                files.read_ns = t_ns
                files.most, _ = limits_of(self._proc, pid)
            files.hits = files.hits + 1 if files.ratio >= self._config.full else 0
            fields: Fields = (("comm", files.process.comm), ("open", int(files.used)),
                              ("limit", int(files.most) if files.most < 2**62 else 0),
                              ("cgroup", files.process.cgroup), ("unit", files.process.unit))
            yield from self._tell("fds", pid, files.hits >= 2, files.ratio < self._config.low, t_ns, fields)
            if files.used < MANY:
                del self._many[pid]

    def _user_events(self, table: ProcessTable, t_ns: int) -> Iterator[HostEvent]:
        """RLIMIT_NPROC counts all tasks of a user, against the limit of the process that wants one more. Not root."""
        tasks: Counter[int] = Counter()
        programs: dict[int, dict[str, Program]] = {}
        for one in table.processes:
            tasks[one.uid] += one.threads
            if one.uid > 0:
                add(programs.setdefault(one.uid, {}), one)
        self._users = 0.0
        yield from self._users_with_room(tasks, t_ns)
        for uid, count in tasks.items():
            if uid > 0 and count >= MANY and (
                    found := tightest(self._proc, programs[uid].values())) is not None:
                (program, most), head = found, found[0].head
                ratio = count / most
                self._users = max(self._users, ratio)
                fields: Fields = (("comm", head.comm), ("tasks", count), ("limit", int(min(most, 2**62))),
                                  ("own", program.tasks), ("pid", head.pid), ("cgroup", head.cgroup),
                                  ("unit", head.unit))
                yield from self._tell("user_tasks", uid, ratio >= self._config.full, ratio < self._config.low, t_ns,
                                      fields)

    def _users_with_room(self, tasks: Counter[int], t_ns: int) -> Iterator[HostEvent]:
        """Users that were told and have few tasks now, or none: nothing else would ever end what was said of them."""
        for what, uid in list(self._told):
            if what == "user_tasks" and tasks[uid] < MANY:
                yield from self._tell(what, uid, False, True, t_ns, ())

    # -- zombies -----------------------------------------------------------------------------------------------------

    def _see_zombies(self, table: ProcessTable) -> None:
        """Keeps a sample of the dead children of each parent that has many."""
        dead: dict[int, list[int]] = {}
        for one in table.processes:
            if one.state == "Z":
                dead.setdefault(one.ppid, []).append(one.pid)
        self._zombies = {pid: len(children) for pid, children in dead.items()}
        known = {p.pid: p for p in table.processes}
        many = {pid: pids for pid, pids in dead.items() if len(pids) >= self._config.zombies and pid in known}
        for pid, children in many.items():
            held = self._dead.get(pid)
            sample = held.sample if held else tuple(children[:SAMPLE])
            self._dead[pid] = _Dead(known[pid], sample, held.since_ns if held else table.t_ns, len(children))
        for pid in self._dead.keys() - many.keys():
            self._dead[pid].count = self._zombies.get(pid, 0)

    def _zombie_events(self, t_ns: int) -> Iterator[HostEvent]:
        """Told once the sample has been dead for a while: a parent that collects late is not one that never does."""
        for pid, dead in list(self._dead.items()):
            lasting = all(self._is_dead(child) for child in dead.sample)
            full = lasting and t_ns - dead.since_ns >= LASTING_NS
            fields: Fields = (("comm", dead.parent.comm), ("zombies", dead.count), ("cgroup", dead.parent.cgroup),
                              ("unit", dead.parent.unit))
            yield from self._tell("zombies", pid, full, not lasting or dead.count < self._config.zombies / 2, t_ns,
                                  fields)
            if not lasting or dead.count < self._config.zombies / 2:
                del self._dead[pid]

    def _is_dead(self, pid: int) -> bool:
        raw = slurp(f"{self._proc}/{pid}/stat", 512) or b""
        return raw[raw.rfind(b")") + 1:].split(None, 1)[:1] == [b"Z"]

    # -- stopped -----------------------------------------------------------------------------------------------------

    def _see_stopped(self, table: ProcessTable) -> None:
        """Follows processes that a signal has stopped (state T; one that is traced is in state t)."""
        for one in table.processes:
            if one.state == "T" and one.pid not in self._stopped and len(self._stopped) < self._config.looks:
                self._stopped[one.pid] = (one, table.t_ns)

    def _stopped_events(self, t_ns: int) -> Iterator[HostEvent]:
        """Told when it lasts and the process is a server: a unit, or one with a listening socket. Jobs are stopped on
        purpose (Ctrl-Z, cpulimit, a debugger), and nobody waits for them; nor for what runs in the background by its
        own wish (nice 10 and more), whatever it listens to: who pauses a batch of tests or a build knows it. The same
        holds for its children that raised their priority, where the whole job is stopped."""
        for pid, (process, since_ns) in list(self._stopped.items()):
            raw = slurp(f"{self._proc}/{pid}/stat", 512) or b""
            words = raw[raw.rfind(b")") + 1:].split(None, 17)
            stopped = words[:1] == [b"T"] and len(words) > 4
            lasting = stopped and words[4] == b"0" and t_ns - since_ns >= LASTING_NS
            full = lasting and ("stopped", pid) not in self._told and self._serves(process, self._may_wait(words))
            fields: Fields = (("comm", process.comm), ("cgroup", process.cgroup), ("unit", process.unit))
            yield from self._tell("stopped", pid, full, not stopped, t_ns, fields)
            if not stopped:
                del self._stopped[pid]
                self._asked.discard(pid)

    def _may_wait(self, words: Sequence[bytes]) -> bool:
        """Whether a stopped process, its stat from the state on, or the stopped leader of its group is niced."""
        if _niced(words):
            return True
        raw = slurp(f"{self._proc}/{words[2].decode()}/stat", 512) or b""
        leader = raw[raw.rfind(b")") + 1:].split(None, 17)
        return leader[:1] == [b"T"] and _niced(leader)

    def _serves(self, process: Process, background: bool) -> bool:
        """Whether others rely on it; asked once for each stopped process."""
        if process.unit.endswith(".service"):
            return True
        if background:
            return False
        if process.pid not in self._asked and self.owners is not None:
            self._asked.add(process.pid)
            listening = [inode for name in ("tcp", "tcp6")
                         for inode in parse_listeners(slurp(f"{self._proc}/net/{name}", 1 << 20) or b"")]
            for start in range(0, min(len(listening), 512), 64):
                if process.pid in self.owners(listening[start:start + 64]).values():
                    return True
        return False

    # -- telling -----------------------------------------------------------------------------------------------------

    def _tell(self, what: str, key: int, full: bool, low: bool, t_ns: int, fields: Fields) -> Iterator[HostEvent]:
        held = self._told.get((what, key))
        begin, over, label = _KINDS[what]
        if full and held is None:
            entity, comm = f"{label}={key}", str(dict(fields)["comm"])
            self._told[what, key] = _Held(entity, comm, over)
            yield HostEvent(t_ns, begin, entity, fields, SOURCE)
        elif low and held is not None:
            del self._told[what, key]
            yield HostEvent(t_ns, held.over, held.entity, (("comm", held.comm),), SOURCE)


_KINDS = {
    "fds": ("fds_exhausted", "fds_released", "pid"),
    "user_tasks": ("user_tasks_exhausted", "user_tasks_released", "uid"),
    "zombies": ("zombies_pile_up", "zombies_gone", "pid"),
    "stopped": ("process_stopped", "process_continued", "pid"),
}
"""What begins, what ends, and the label of the thing."""


def _niced(words: Sequence[bytes]) -> bool:
    return len(words) > 16 and words[16].isdigit() and int(words[16]) >= BACKGROUND


COLLECTOR = CollectorSpec(
    name="process_health", config=Config, build=ProcessHealth,
    reads="process tables, sizes of /proc/PID/fd, /proc/PID/limits of a few", emits=emits(COLUMNS),
    source="proc_pid_fd(5), getrlimit(2)", optional=True,
)
