"""Tables of the kernel that can fill up: open files, tasks, tracked connections.

Reads:  /proc/sys/fs/file-nr, /proc/loadavg, /proc/sys/kernel/{pid_max,threads-max},
        /proc/sys/net/netfilter/nf_conntrack_{count,max}, /proc/sys/fs/{inode-nr,dentry-state}
Emits:  kernel_file_handles*, kernel_pids_used_ratio, kernel_tasks, conntrack_*, kernel_inodes*, kernel_dentries*
Needs:  the module nf_conntrack for conntrack_used_ratio (looked for again each minute)
Source: Documentation/admin-guide/sysctl/fs.rst and kernel.rst; Documentation/networking/nf_conntrack-sysctl.rst
"""

from dataclasses import dataclass
from math import isnan
from pathlib import Path

from collector.files import Sources
from collector.table import NAN, Column, Fixed, emits, number
from etio.core.errors import Broken, NoData
from etio.core.frame import Reading
from etio.core.ports import CollectorSpec

COLUMNS = (
    Column("kernel_file_handles_used_ratio", "ratio", "gauge", "open files over fs.file-max"),
    Column("kernel_pids_used_ratio", "ratio", "gauge", "tasks over the lesser of kernel.pid_max and threads-max"),
    Column("conntrack_used_ratio", "ratio", "gauge", "tracked connections over nf_conntrack_max"),
    Column("kernel_file_handles", "1", "gauge", "open files"),
    Column("kernel_tasks", "1", "gauge", "tasks that exist, threads included"),
    Column("conntrack_connections", "1", "gauge", "tracked connections"),
    Column("kernel_inodes", "1", "gauge", "inodes in memory"),
    Column("kernel_inodes_unused", "1", "gauge", "inodes in memory that could be given up"),
    Column("kernel_dentries", "1", "gauge", "directory entries in memory"),
    Column("kernel_dentries_unused", "1", "gauge", "directory entries in memory that could be given up"),
    Column("kernel_dentries_negative", "1", "gauge", "unused directory entries of names that do not exist"),
)
REREAD_READINGS = 10
"""The limits of tasks are settings and seldom change; they are read this often."""
_NETFILTER = "proc/sys/net/netfilter/nf_conntrack_"
PATHS = (
    "proc/sys/fs/file-nr", "proc/loadavg", f"{_NETFILTER}count",
    "proc/sys/kernel/pid_max", "proc/sys/kernel/threads-max", f"{_NETFILTER}max",
    "proc/sys/fs/inode-nr", "proc/sys/fs/dentry-state",
)


def parse_file_nr(data: bytes) -> tuple[float, float]:
    """(open files, the most there may be): `allocated free maximum`. Raises NoData or Broken."""
    fields = _fields(data)
    if len(fields) != 3 or not number(fields[2]) > 0:
        raise Broken("not three numbers: allocated, free, maximum")
    return number(fields[0]) - number(fields[1]), number(fields[2])


def parse_inode_nr(data: bytes) -> list[float]:
    """[inodes, unused inodes]. Raises NoData or Broken."""
    fields = _fields(data)
    if len(fields) < 2:
        raise Broken("not two numbers: all, unused")
    return [number(f) for f in fields[:2]]


def parse_dentry_state(data: bytes) -> list[float]:
    """[directory entries, unused, negative]: `all unused age want negative`; negative is a dummy 0 before
    Linux 5.0, and a host without a single one is not met, so 0 is unknown. Raises NoData or Broken."""
    fields = _fields(data)
    if len(fields) != 6:
        raise Broken("not six numbers")
    return [number(fields[0]), number(fields[1]), number(fields[4]) or NAN]


def parse_tasks(data: bytes) -> float:
    """Tasks that exist, threads included, from /proc/loadavg: `0.00 0.01 0.05 1/93 4711`. Raises NoData or Broken."""
    fields = _fields(data)
    counts = fields[3].split(b"/") if len(fields) == 5 else []
    if len(counts) != 2:
        raise Broken("no 'runnable/all' in the fourth place")
    return number(counts[1])


def parse_limit(data: bytes) -> float:
    """The one number of a sysctl. Raises NoData or Broken."""
    fields = _fields(data)
    value = number(fields[0]) if len(fields) == 1 else NAN
    if isnan(value):
        raise Broken("not a number")
    return value


def _fields(data: bytes) -> list[bytes]:
    if not data:
        raise NoData("empty")
    return data.split()


@dataclass(frozen=True, slots=True)
class Config:
    """No settings."""


class Limits:
    """Collector of the fill levels of kernel tables."""

    def __init__(self, config: Config) -> None:
        self._fixed = Fixed([c.series() for c in COLUMNS])
        self._sources: Sources | None = None
        self._readings = 0
        self._most = [NAN, NAN]

    def open(self, root: Path) -> None:
        """Raises NoData or Broken."""
        self._sources = Sources("limits", root, PATHS)

    def collect(self, t_ns: int) -> Reading:
        """One reading. Raises NoData or Broken when no file can be read."""
        if self._sources is None:
            raise NoData("not open")
        parse = self._sources.parse
        files, most_files = parse(0, parse_file_nr) or (NAN, NAN)
        tasks = _known(parse(1, parse_tasks))
        connections = _known(parse(2, parse_limit))
        if self._readings % REREAD_READINGS == 0:
            self._most = [_known(parse(i, parse_limit)) for i in (3, 4)]
        self._readings += 1
        pid_max, threads_max = self._most
        # Somebody who lowers this limit drops packets at once; with the old one the table would look empty.
        most = NAN if isnan(connections) else _known(parse(5, parse_limit))
        most_tasks = min((m for m in (pid_max, threads_max) if m > 0), default=NAN)
        values = [
            files / most_files, tasks / most_tasks, connections / most if most > 0 else NAN, files, tasks, connections,
            *(parse(6, parse_inode_nr) or [NAN] * 2), *(parse(7, parse_dentry_state) or [NAN] * 3),
        ]
        return self._fixed.reading(values, None, self._sources.events(t_ns))

    def close(self) -> None:
        """May be called twice."""
        if self._sources is not None:
            self._sources.close()


def _known(value: float | None) -> float:
    return NAN if value is None else value


COLLECTOR = CollectorSpec(
    name="limits", config=Config, build=Limits,
    reads="/proc/sys/fs/{file-nr,inode-nr,dentry-state}, /proc/loadavg, /proc/sys/kernel/{pid_max,threads-max}, "
    "/proc/sys/net/netfilter/nf_conntrack_*",
    emits=emits(COLUMNS), source="Documentation/admin-guide/sysctl/", period_s=2.0,
)
