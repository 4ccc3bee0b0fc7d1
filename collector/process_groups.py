"""Who uses this host: processes added up by unit, or by program where no unit is known.

Reads:  the process tables that the daemon makes anyway (ProcessGroups.take): each second while something is wrong, each
        10 to 45 s else; values are means over the time between two tables and stand until the next
Emits:  process_group_cpu_cores{group}, process_group_memory_bytes{group}, process_group_processes{group},
        process_group_threads{group}, process_group_major_faults_per_second{group}, process_groups_left_out
Needs:  -
Source: proc_pid_stat(5)

Kernel threads are one group. A group gets its series with its first real use (`least_cores`, `least_bytes`); it keeps
them, so that what a short job does each night has one curve. Names are made common: worker-17 and worker-18 are one.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from collector.cgroup_files import shown
from collector.table import NAN, Column, Table, emits
from etio.core.facts import Process, ProcessTable
from etio.core.frame import NS, Reading
from etio.core.habits import common
from etio.core.ports import CollectorSpec
from etio.core.series import Series

_LABELS = ("group",)
COLUMNS = (
    Column("process_group_cpu_cores", "cores", "gauge", "CPU time of its processes", _LABELS),
    Column("process_group_memory_bytes", "bytes", "gauge", "resident memory, shared pages counted in each", _LABELS),
    Column("process_group_processes", "1", "gauge", "processes", _LABELS),
    Column("process_group_threads", "1", "gauge", "threads", _LABELS),
    Column("process_group_major_faults_per_second", "1/s", "gauge", "pages that had to be read from a disk", _LABELS),
)
LEFT_OUT = Column("process_groups_left_out", "1", "gauge", "groups in use that have no series, because of the cap")
KTHREADD = 2
KERNEL = "kernel threads"
NAME_MAX = 60
Identity = tuple[int, float]


@dataclass(frozen=True, slots=True)
class Config:
    """max_groups: how many get series at most over the daemon's life. least_cores, least_bytes: what one must use."""

    max_groups: int = 48
    least_cores: float = 0.002
    least_bytes: float = 8e6

    def __post_init__(self) -> None:
        if self.max_groups < 0 or self.least_cores < 0 or self.least_bytes < 0:
            raise ValueError("max_groups, least_cores and least_bytes must not be negative")


@dataclass(slots=True)
class Sums:
    """One group in one table. cpu, faults: since the table before; NaN without one."""

    cpu_seconds: float = 0.0
    memory_bytes: float = 0.0
    processes: int = 0
    threads: int = 0
    major_faults: float = 0.0


@dataclass(slots=True)
class Adder:
    """Adds tables up, each against the one before."""

    t_ns: int = 0
    before: dict[Identity, tuple[float, float]] = field(default_factory=dict)

    def step(self, table: ProcessTable) -> tuple[dict[str, Sums], float]:
        """(group to its sums, seconds since the table before or NaN)."""
        seconds = (table.t_ns - self.t_ns) / NS if 0 < self.t_ns < table.t_ns else NAN
        groups: dict[str, Sums] = {}
        now: dict[Identity, tuple[float, float]] = {}
        for one in table.processes:
            sums = groups.setdefault(group_of(one), Sums())
            identity = (one.pid, one.start_s)
            now[identity] = (one.cpu_seconds, one.major_faults)
            cpu, faults = self.before.get(identity, (0.0, 0.0))  # a new one used all of it since
            sums.cpu_seconds += _grown(one.cpu_seconds, cpu)
            sums.major_faults += _grown(one.major_faults, faults)
            sums.memory_bytes += one.rss_bytes if one.rss_bytes > 0 else 0.0  # NaN: a kernel thread, or gone
            sums.processes += 1
            sums.threads += one.threads
        self.t_ns, self.before = table.t_ns, now
        return groups, seconds


def _grown(now: float, before: float) -> float:
    return now - before if now > before else 0.0


def group_of(one: Process) -> str:
    """The unit, else the program's name, without numbers; every kernel thread is in one group.

    >>> group_of(Process(7, 1, "nginx", unit="nginx.service")), group_of(Process(8, 1, "kafka-17"))
    ('nginx.service', 'kafka-#')
    >>> group_of(Process(40, 2, "kworker/1:0"))
    'kernel threads'
    """
    if KTHREADD in (one.pid, one.ppid):
        return KERNEL
    return common(shown(one.unit or one.comm), NAME_MAX)


class ProcessGroups:
    """The collector; see the module."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._adder = Adder()
        self._table = Table()
        self._known: set[str] = set()
        self._waiting: ProcessTable | None = None
        self._reading = self._table.reading()

    def open(self, root: Path) -> None:
        """Nothing is opened."""

    def take(self, table: ProcessTable) -> ProcessTable:
        """Keeps a process table that somebody made; gives it back for chaining."""
        self._waiting = table
        return table

    def collect(self, t_ns: int) -> Reading:
        """One reading: of the newest table, or the last one again."""
        table, self._waiting = self._waiting, None
        if table is not None:
            self._reading = self._read(*self._adder.step(table))
        return self._reading

    def close(self) -> None:
        """May be called twice."""

    def _read(self, groups: dict[str, Sums], seconds: float) -> Reading:
        left_out = self._admit(groups.items(), seconds)
        self._table.start()
        for name in self._known & groups.keys():
            self._table.put(name, lambda name=name: _series(name), _values(groups[name], seconds))  # type: ignore[misc]
        self._table.put(None, lambda: [LEFT_OUT.series()], [float(left_out)])
        return self._table.reading()

    def _admit(self, groups: Iterable[tuple[str, Sums]], seconds: float) -> int:
        """Lets groups in that are in use, heaviest first; how many found no place."""
        least, most = self._config.least_cores, self._config.max_groups
        fresh = [(s.cpu_seconds, s.memory_bytes, name) for name, s in groups if name not in self._known and (
            s.cpu_seconds >= least * seconds or s.memory_bytes >= self._config.least_bytes)]
        fresh.sort(reverse=True)
        room = max(0, most - len(self._known))
        self._known.update(name for _, _, name in fresh[:room])
        return len(fresh[room:])


def _values(sums: Sums, seconds: float) -> list[float]:
    return [sums.cpu_seconds / seconds, sums.memory_bytes, float(sums.processes), float(sums.threads),
            sums.major_faults / seconds]


def _series(name: str) -> list[Series]:
    return [c.series(name) for c in COLUMNS]


COLLECTOR = CollectorSpec(
    name="process_groups", config=Config, build=ProcessGroups, reads="process tables",
    emits=emits((*COLUMNS, LEFT_OUT)), source="proc_pid_stat(5)", optional=True,
)
