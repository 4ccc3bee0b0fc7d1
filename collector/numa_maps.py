"""On which NUMA nodes the memory of a process or a control group lies, and on which nodes its threads run.

Reads:  /proc/PID/numa_maps (root, or the same user: the kernel walks the whole page table), memory.numa_stat of a
        control group (v2, open to all), /proc/PID/task/TID/stat
Source: Documentation/filesystems/proc.rst, admin-guide/cgroup-v2.rst; proc_pid_numa_maps(5)
"""

import os
import re
from collections.abc import Iterable
from itertools import islice

from collector.cgroup_files import slurp
from collector.gpu.placement import last_cpu
from collector.nodes import cpu_node
from collector.table import whole_lines
from etio.core.errors import Broken, NoData

KIB = 1024
MOST_BYTES = 1 << 23
MOST_THREADS = 64
_PAGE = re.compile(rb" kernelpagesize_kB=(\d{1,8})(?= |$)")
_NODE = re.compile(rb" N(\d{1,4})=(\d{1,18})(?= |$)")
"""Fields stand alone; a file name holds no space, the kernel writes \\040."""
KINDS = (b"anon ", b"file ", b"shmem ")


def parse_numa_maps(data: bytes) -> dict[int, float]:
    """Bytes of a process on each node; huge pages count with their own size. Raises NoData (empty) or Broken.

    >>> parse_numa_maps(b"7f00 default anon=3 dirty=3 N0=1 N1=2 kernelpagesize_kB=4\\n")
    {0: 4096.0, 1: 8192.0}
    """
    if not data:
        raise NoData("empty")
    found: dict[int, float] = {}
    for line in whole_lines(data):
        size = _PAGE.search(line)
        if size is None:
            continue
        for node, pages in _NODE.findall(line):
            found[int(node)] = found.get(int(node), 0.0) + float(pages) * int(size[1]) * KIB
    if not found and _PAGE.search(data) is None:
        raise Broken("no line with pages")
    return found


def parse_numa_stat(data: bytes) -> dict[int, float]:
    """Bytes of a control group on each node: anonymous, file and shared memory. Raises NoData (empty) or Broken."""
    if not data:
        raise NoData("empty")
    lines = [line for line in data.splitlines() if line.startswith(KINDS)]
    if not lines:
        raise Broken("neither anon nor file is there")
    found: dict[int, float] = {}
    for line in lines:
        if line.startswith(b"shmem "):
            continue  # counted as file already
        for node, size in _NODE.findall(line):
            found[int(node)] = found.get(int(node), 0.0) + float(size)
    return found


def shares(amounts: dict[int, float]) -> dict[int, float]:
    """The same as parts of the whole; empty where there is nothing."""
    total = sum(amounts.values())
    return {node: amount / total for node, amount in amounts.items()} if total > 0 else {}


def running_on(root: str, pid: int, nodes: tuple[int, ...]) -> dict[int, float]:
    """On which nodes the threads of a process were last, by the CPU time they have used; at most 64 of them."""
    base = f"{root}/proc/{pid}/task"
    try:
        names = [entry.name for entry in islice(os.scandir(base), MOST_THREADS)]
    except OSError:
        return {}
    return shares(_by_node((slurp(f"{base}/{name}/stat", 2048) or b"" for name in names), nodes))


def _by_node(stats: Iterable[bytes], nodes: tuple[int, ...]) -> dict[int, float]:
    found: dict[int, float] = {}
    for stat in stats:
        node = cpu_node(nodes, last_cpu(stat))
        if node >= 0:
            found[node] = found.get(node, 0.0) + _ticks(stat) + 1.0
    return found


def _ticks(stat: bytes) -> float:
    """CPU time of a task, fields 14 and 15."""
    rest = stat[stat.rfind(b")") + 2:].split()
    return float(sum(int(f) for f in rest[11:13] if f.isdigit()))
