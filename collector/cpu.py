"""Where processor time goes, and how many tasks want more of it.

Reads:  /proc/stat, /proc/loadavg
Emits:  cpu_*
Needs:  -
Source: Documentation/filesystems/proc.rst, "Miscellaneous kernel statistics in /proc/stat"; proc_loadavg(5)
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from math import isnan
from pathlib import Path

from collector.files import Sources, Text
from collector.late import LateCollector
from collector.table import NAN, Column, Table, emits, number, numbers, text, value_after, whole_lines
from etio.core.errors import Broken, NoData
from etio.core.frame import Reading
from etio.core.ports import CollectorSpec
from etio.core.series import Series

MODES = ("user", "nice", "system", "irq", "softirq", "iowait", "idle", "steal", "guest")
BUSY = Column("cpu_busy_ratio", "ratio", "mean", "time neither idle nor waiting for I/O, over all time, all CPUs")
MODE = Column("cpu_mode_ratio", "ratio", "mean", "time in one mode over all time; the modes add up to 1", ("mode",))
HOST = (
    Column("cpu_context_switches_per_second", "1/s", "counter", "switches between tasks"),
    Column("cpu_interrupts_per_second", "1/s", "counter", "interrupts served"),
    Column("cpu_forks_per_second", "1/s", "counter", "tasks created, threads included"),
    Column("cpu_runnable_tasks", "1", "gauge", "tasks running or ready to run"),
    Column("cpu_blocked_tasks", "1", "gauge", "tasks blocked, waiting for I/O"),
    Column("cpu_count", "1", "gauge", "CPUs online"),
    Column("cpu_runnable_per_core", "1", "gauge", "tasks running or ready to run, over CPUs online"),
    Column("cpu_load1", "1", "gauge", "load average of one minute"),
    Column("cpu_load5", "1", "gauge", "load average of five minutes"),
    Column("cpu_load15", "1", "gauge", "load average of fifteen minutes"),
)
LOADS = HOST[-3:]
CORE = (
    Column("cpu_core_busy_ratio", "ratio", "mean", "as cpu_busy_ratio, of one CPU", ("cpu",)),
    Column("cpu_core_softirq_ratio", "ratio", "mean", "time in soft interrupts, of one CPU", ("cpu",)),
)
CORE_MODE = Column("cpu_core_mode_ratio", "ratio", "mean", "time in one mode, of one CPU (softirq has its own name)",
                   ("cpu", "mode"))
CORE_MODES = ("user", "system", "iowait", "irq", "steal")
COLUMNS = (BUSY, MODE, *HOST, *CORE, CORE_MODE)
_KEYS = (b"\nctxt ", b"\nintr ", b"\nprocesses ", b"\nprocs_running ", b"\nprocs_blocked ")


@dataclass(slots=True)
class Stat:
    """What /proc/stat says. Jiffies are cumulative; a row is (user, nice, system, idle, iowait, irq, softirq, steal,
    guest, guest_nice), shorter on old kernels. rows: by the CPU's own name (b"0"); counters: in the order of _KEYS."""

    total: list[float] = field(default_factory=list)
    rows: dict[bytes, list[float]] = field(default_factory=dict)
    counters: list[float] = field(default_factory=list)


def parse_stat(data: bytes) -> Stat:
    """/proc/stat. Raises NoData for an empty file, Broken where the line of all CPUs is missing."""
    if not data:
        raise NoData("empty")
    stat = Stat()
    end = data.find(b"\nintr")
    head, tail = (data, b"") if end < 0 else (data[:end + 1], data[end:])
    for line in whole_lines(head):
        if not line.startswith(b"cpu"):
            continue
        fields = line.split()
        jiffies = numbers(fields[1:11])
        if fields[0] == b"cpu":
            stat.total = jiffies
        else:
            stat.rows[fields[0][3:]] = jiffies
    if len(stat.total) < 4:
        raise Broken("the line 'cpu' with its jiffies is missing")
    stat.counters = [_first(tail, k) for k in _KEYS]
    return stat


def _first(data: bytes, key: bytes) -> float:
    """As value_after(), without splitting the long line of interrupts in full."""
    if key != b"\nintr ":
        return value_after(data, key)
    if not data.startswith(key):
        return NAN
    rest = data[len(key):len(key) + 24]
    word = rest.split(None, 1)[0] if rest.strip() else rest
    return number(word) if len(word) < len(rest) else NAN  # it may be cut off


def parse_loadavg(data: bytes) -> list[float]:
    """Load averages of 1, 5 and 15 minutes. Raises NoData or Broken."""
    if not data:
        raise NoData("empty")
    loads = numbers(data.split()[:3])
    if len(loads) < 3 or any(map(isnan, loads)):
        raise Broken("no three load averages")
    return loads


def busy_and_total(jiffies: list[float]) -> tuple[float, float]:
    """(neither idle nor iowait, all) of one row; guest time is within user and nice already."""
    total = sum(jiffies[:8])
    return total - jiffies[3] - (jiffies[4] if len(jiffies) > 4 else 0.0), total


def by_mode(jiffies: list[float]) -> list[float]:
    """Jiffies in the order of MODES, guest time taken out of user and nice; NaN for what the kernel does not count."""
    user, nice, system, idle, iowait, irq, softirq, steal, guest, guest_nice = jiffies + [NAN] * (10 - len(jiffies))
    if not isnan(guest):
        user -= guest
    if not isnan(guest_nice):
        nice -= guest_nice
        guest += guest_nice
    return [user, nice, system, irq, softirq, iowait, idle, steal, guest]


@dataclass(frozen=True, slots=True)
class Config:
    """per_core: series of each CPU, too (two each). per_core_modes: five more each, on hosts with at most that many
    CPUs (0: never)."""

    per_core: bool = True
    per_core_modes: int = 64


class Cpu(LateCollector):
    """Collector of /proc/stat and /proc/loadavg."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._table = Table()
        self._sources: Sources | None = None

    def open(self, root: Path) -> None:
        """Raises NoData or Broken."""
        self._sources = Sources("cpu", root, ("proc/stat", "proc/loadavg"))

    def grab(self, t_ns: int) -> Callable[[], Reading]:
        """See etio.core.ports.Deferring."""
        if self._sources is None:
            raise NoData("not open")
        return partial(self._made, t_ns, self._sources, self._sources.read(0), self._sources.read(1))

    def _made(self, t_ns: int, sources: Sources, stat_text: Text, load_text: Text) -> Reading:
        self._table.start()
        stat = sources.made(0, stat_text, parse_stat)
        load = sources.made(1, load_text, parse_loadavg)
        if stat is not None:
            self._put_host(stat)
            if self._config.per_core:
                self._put_cores(stat)
        if load is not None:
            self._table.put("load", lambda: [c.series() for c in LOADS], load)
        return self._table.reading(sources.events(t_ns))

    def _put_host(self, stat: Stat) -> None:
        busy, total = busy_and_total(stat.total)
        modes = by_mode(stat.total)
        self._table.put("busy", _host_series, [busy, *modes], [total] * (1 + len(modes)))
        runnable, cpus = stat.counters[3], float(len(stat.rows))
        values = [*stat.counters, cpus, runnable / cpus] if cpus else [*stat.counters, NAN, NAN]
        self._table.put("counters", _counter_series, values)

    def _put_cores(self, stat: Stat) -> None:
        modes = len(stat.rows) <= self._config.per_core_modes
        for name, jiffies in stat.rows.items():
            if len(jiffies) >= 7:
                busy, total = busy_and_total(jiffies)
                self._table.put(name, partial(_core_series, name), [busy, jiffies[6]], [total, total])
            if modes and len(jiffies) >= 8:
                values = [jiffies[0] - (jiffies[8] if len(jiffies) > 8 else 0.0), jiffies[2], *jiffies[4:6], jiffies[7]]
                self._table.put((name, "modes"), partial(_mode_series, name), values, [total] * len(values))

    def close(self) -> None:
        """May be called twice."""
        if self._sources is not None:
            self._sources.close()


def _host_series() -> list[Series]:
    return [BUSY.series(), *(MODE.series(m) for m in MODES)]


def _core_series(name: bytes) -> list[Series]:
    return [c.series(text(name)) for c in CORE]


def _mode_series(name: bytes) -> list[Series]:
    return [CORE_MODE.series(text(name), mode) for mode in CORE_MODES]


def _counter_series() -> list[Series]:
    return [c.series() for c in HOST[:-len(LOADS)]]


COLLECTOR = CollectorSpec(
    name="cpu", config=Config, build=Cpu, reads="/proc/stat, /proc/loadavg", emits=emits(COLUMNS),
    source="Documentation/filesystems/proc.rst",
)
