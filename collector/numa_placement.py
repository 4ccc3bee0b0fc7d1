"""Memory on another NUMA node than its threads: looked at only while something is wrong.

Reads:  /proc/*/statm, and of the biggest processes /proc/PID/{comm,cgroup,numa_maps,task/*/stat}; memory.numa_stat of
        their control groups where numa_maps is closed to us
Emits:  numa_remote_memory_ratio, numa_placed_processes; facts for the report
Needs:  two NUMA nodes at least; root, or else the cgroup v2 memory controller
Source: Documentation/admin-guide/mm/numa_memory_policy.rst, proc_pid_numa_maps(5)

The kernel walks the page tables of a process for its numa_maps, some milliseconds for each GiB: so the number and the
size of processes are limited, and nothing is read while all is well.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from collector.cgroup_files import slurp
from collector.gpu.placement import group_of
from collector.nodes import node_facts, node_of_cpu
from collector.numa_maps import MOST_BYTES, parse_numa_maps, parse_numa_stat, running_on, shares
from collector.table import NAN, Column, Fixed, emits
from etio.core.errors import Broken, NoData
from etio.core.frame import NS, Reading
from etio.core.ports import CollectorSpec

COLUMNS = (
    Column("numa_remote_memory_ratio", "ratio", "gauge",
           "memory of the biggest processes of one node that lies on another; only while something is wrong"),
    Column("numa_placed_processes", "1", "gauge", "processes that were looked at for it"),
)
PAGE = os.sysconf("SC_PAGE_SIZE")
CGROUP = "sys/fs/cgroup"


@dataclass(frozen=True, slots=True)
class Config:
    """every_s: seconds between looks. processes: most of them. least_bytes, most_bytes: size of those looked at.
    seconds: CPU time after which a look ends. home: part of the CPU time that makes a node the home of a process."""

    every_s: float = 10.0
    processes: int = 8
    least_bytes: float = 256 * 2.0**20
    most_bytes: float = 64 * 2.0**30
    seconds: float = 0.5
    home: float = 0.8

    def __post_init__(self) -> None:
        if not (self.every_s > 0 and self.processes > 0 and self.seconds > 0 and 0 < self.home <= 1):
            raise ValueError("every_s, processes and seconds must be above 0, home above 0 and at most 1")


@dataclass(frozen=True, slots=True)
class Placed:
    """One process. runs: parts of its CPU time by node; memory: bytes by node. source: where the bytes come from."""

    pid: int
    comm: str
    cgroup: str
    runs: dict[int, float]
    memory: dict[int, float]
    source: str

    def home(self, least: float) -> int:
        """The node that it runs on, -1 where it runs on several."""
        node = max(self.runs, key=self.runs.__getitem__, default=-1)
        return node if self.runs.get(node, 0.0) >= least else -1

    def remote_bytes(self, least: float) -> float:
        """Bytes on other nodes than its home; 0 where it has none."""
        home = self.home(least)
        return sum(size for node, size in self.memory.items() if node != home) if home >= 0 else 0.0

    @property
    def fact(self) -> tuple[str, str]:
        """For Facts.extra."""
        runs = " ".join(f"{node}={part:.2f}" for node, part in sorted(self.runs.items()))
        memory = " ".join(f"{node}={size:.0f}" for node, size in sorted(self.memory.items()))
        return (f"numa pid={self.pid} comm={self.comm}",
                f"runs: {runs}; memory: {memory}; cgroup: {self.cgroup.replace(';', '?')}; source: {self.source}")


class NumaPlacement:
    """The collector. wanted: whether something is wrong; set by the daemon. facts() may be called from any thread."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._fixed = Fixed([c.series() for c in COLUMNS])
        self._root = ""
        self._nodes: tuple[int, ...] = ()
        self._placed: tuple[Placed, ...] = ()
        self._map: tuple[tuple[str, str], ...] = ()
        self._looked_ns = 0
        self.wanted: Callable[[], bool] = lambda: False

    def open(self, root: Path) -> None:
        """Raises NoData where there is one NUMA node."""
        self._root = str(root).rstrip("/")
        self._nodes = node_of_cpu(self._root)
        if len(set(self._nodes) - {-1}) < 2:
            raise NoData("fewer than two NUMA nodes with CPUs")
        self._map = node_facts(self._root)

    def collect(self, t_ns: int) -> Reading:
        """One look while it is wanted; else no values."""
        if not self.wanted():
            self._looked_ns = 0
            return self._fixed.reading([NAN, NAN])
        if not self._looked_ns or t_ns - self._looked_ns >= self._config.every_s * NS:
            self._looked_ns, self._placed = t_ns, self._look()
        return self._fixed.reading([self._remote(), float(len(self._placed))])

    def facts(self) -> tuple[tuple[str, str], ...]:
        """Nodes with their CPUs and adapters, and the last look: those with most memory elsewhere first."""
        least = self._config.home
        return self._map + tuple(p.fact for p in sorted(self._placed, key=lambda p: -p.remote_bytes(least)))

    def close(self) -> None:
        """May be called twice."""
        self._placed, self._looked_ns = (), 0

    def _remote(self) -> float:
        home = [p for p in self._placed if p.home(self._config.home) >= 0]
        total = sum(sum(p.memory.values()) for p in home)
        return sum(p.remote_bytes(self._config.home) for p in home) / total if total > 0 else NAN

    def _look(self) -> tuple[Placed, ...]:
        began, found = time.thread_time(), []
        for pid in self._biggest():
            if time.thread_time() - began > self._config.seconds:
                break
            placed = self._place(pid)
            if placed is not None:
                found.append(placed)
        return tuple(found)

    def _biggest(self) -> list[int]:
        sizes = []
        try:
            names = [name for name in os.listdir(f"{self._root}/proc") if name.isdigit()]
        except OSError:
            return []
        for name in names:
            words = (slurp(f"{self._root}/proc/{name}/statm", 256) or b"").split()
            size = float(words[1]) * PAGE if len(words) > 1 and words[1].isdigit() else 0.0
            if self._config.least_bytes <= size <= self._config.most_bytes:
                sizes.append((size, int(name)))
        return [pid for _, pid in sorted(sizes, reverse=True)[:self._config.processes]]

    def _place(self, pid: int) -> Placed | None:
        base = f"{self._root}/proc/{pid}"
        group = group_of(slurp(f"{base}/cgroup", 8192) or b"")
        memory, source = self._memory(base, group)
        runs = running_on(self._root, pid, self._nodes)
        if not shares(memory) or not runs:
            return None
        comm = (slurp(f"{base}/comm", 64) or b"").decode("utf-8", "replace").rstrip("\n")
        return Placed(pid, "".join(c if c.isprintable() else "?" for c in comm), group, runs, memory, source)

    def _memory(self, base: str, group: str) -> tuple[dict[int, float], str]:
        """Bytes by node; those of the whole group where the kernel does not show us those of the process."""
        try:
            return parse_numa_maps(slurp(f"{base}/numa_maps", MOST_BYTES) or b""), "numa_maps"
        except (NoData, Broken):
            pass
        try:
            stat = slurp(f"{self._root}/{CGROUP}{group}/memory.numa_stat", 1 << 16) if group not in ("", "/") else None
            return parse_numa_stat(stat or b""), "memory.numa_stat of its group"
        except (NoData, Broken):
            return {}, ""


COLLECTOR = CollectorSpec(
    name="numa_placement", config=Config, build=NumaPlacement,
    reads="/proc/PID/{numa_maps,task/*/stat} of the biggest processes, memory.numa_stat", emits=emits(COLUMNS),
    needs="two NUMA nodes", source="proc_pid_numa_maps(5)", slow=True, optional=True,
)
