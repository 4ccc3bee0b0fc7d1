"""Files of control groups, v1 and v2: where the hierarchies are mounted, and parsers for what they hold.

Reads: /proc/self/mountinfo; the parsers take the bytes of cgroup files.
Source: Documentation/admin-guide/cgroup-v1/ and cgroup-v2.rst of the kernel.
"""

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from collector.mounts import unescape
from etio.core.errors import Broken, NoData

NAN = math.nan
V1_CONTROLLERS = ("cpu", "cpuacct", "memory", "pids", "blkio")
V1_OTHERS = ("name=systemd", "freezer")
"""Hierarchies of v1 that nothing is measured in; groups are not looked for there."""
V1_NO_LIMIT = 1 << 62
"""A v1 memory limit at or above this is none: the kernel prints the page counter's maximum, 9223372036854771712."""
PATH_ORDER = ("cpu", "memory", "pids", "blkio", "", "name=systemd")


_SMALL, _SHORT = 16384, 2048


def slurp(path: str, size: int = _SMALL) -> bytes | None:
    """First `size` bytes of a file; None where it is not there, not ours to read, or went away while being read.

    Files of many lines, such as /proc/net/tcp or mountinfo, come a page at a time, and only an empty read is their end.
    Asked for so little that it fits into a page, a short read is taken for the last.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        data = chunk = os.read(fd, size)
        while chunk and len(data) < size and (size > _SMALL or len(chunk) >= _SHORT):
            chunk = os.read(fd, size - len(data))
            data += chunk
        return data
    except OSError:
        return None
    finally:
        os.close(fd)


@dataclass(frozen=True, slots=True)
class Mounts:
    """Where control groups are mounted. v1: controller to directory; v2: the unified hierarchy, "" where absent.

    v2_controllers: what the unified hierarchy itself controls; empty on a hybrid host, whose controllers are in v1.
    """

    v1: Mapping[str, str]
    v2: str = ""
    v2_controllers: frozenset[str] = frozenset()

    def roots(self) -> tuple[str, ...]:
        """Every directory to scan for groups; the bare unified hierarchy of a hybrid host counts for its pressure."""
        dirs = [self.v1[name] for name in V1_CONTROLLERS if name in self.v1]
        return tuple(dict.fromkeys([*dirs, *([self.v2] if self.v2 else [])]))


def parse_mountinfo(raw: bytes) -> tuple[dict[str, str], str]:
    """(v1 controller to mount point, v2 mount point or ""); the first mount of each counts. Never raises."""
    v1: dict[str, str] = {}
    v2 = ""
    for line in raw.split(b"\n"):
        left, dash, right = line.partition(b" - ")
        fields, tail = left.split(b" "), right.split(b" ")
        if not dash or len(fields) < 5 or len(tail) < 3:
            continue
        point = os.fsdecode(unescape(fields[4]))
        if tail[0] == b"cgroup2":
            v2 = v2 or point
        elif tail[0] == b"cgroup":
            for option in map(os.fsdecode, tail[2].split(b",")):
                if option in V1_CONTROLLERS or option in V1_OTHERS:
                    v1.setdefault(option, point)
    return v1, v2


def find_mounts(root: Path) -> Mounts:
    """The hierarchies of this host. Raises NoData where none is mounted, Broken where mountinfo is unreadable."""
    base = str(root).rstrip("/")
    raw = slurp(f"{base}/proc/self/mountinfo", 1 << 20)
    if raw is None:
        raise Broken(f"{base}/proc/self/mountinfo: unreadable; is /proc mounted?")
    v1, v2 = parse_mountinfo(raw)
    if not v1 and not v2:
        raise NoData("no cgroup hierarchy is mounted")
    held = slurp(f"{base}{v2}/cgroup.controllers") if v2 else None
    controllers = frozenset((held or b"").decode("ascii", "replace").split())
    return Mounts({k: base + p for k, p in v1.items()}, base + v2 if v2 else "", controllers)


def members_of(folder: str, most: int) -> Iterator[list[int]]:
    """Processes of a group, and of those below it: a list of pids for each, at most `most` lists."""
    for below in walk(folder, most):
        raw = slurp(f"{folder}{below}/cgroup.procs", 1 << 16) or b""
        yield list(map(int, filter(bytes.isdigit, raw.split())))


def walk(top: str, limit: int = 20_000) -> Iterator[str]:
    """Paths of all groups below `top` (its own is ""), parents first, at most `limit`.

    A directory of kernfs has 2 + (number of child groups) links, so that leaves need no listing (file systems that
    do not count links say 1).
    """
    stack, seen = [""], 0
    while stack and seen < limit:
        here = stack.pop()
        seen += 1
        yield here
        try:
            if os.stat(top + here).st_nlink == 2:
                continue
            with os.scandir(top + here) as entries:
                stack.extend(f"{here}/{e.name}" for e in entries if e.is_dir(follow_symlinks=False))
        except OSError:
            continue


def parse_flat(raw: bytes | None) -> dict[bytes, float]:
    """`key value` lines (cpu.stat, memory.events, memory.oom_control) to numbers; other lines are left out."""
    found: dict[bytes, float] = {}
    for line in (raw or b"").split(b"\n"):
        key, _, value = line.partition(b" ")
        if value.isdigit():
            found[key] = float(value)
    return found


def parse_number(raw: bytes | None) -> float:
    """One number; "max" is inf; NaN for anything else (also -1, what v1 prints for "no quota")."""
    text = (raw or b"").strip()
    if text == b"max":
        return math.inf
    return float(text) if text.isdigit() else NAN


def parse_stat_value(raw: bytes | None, key: bytes) -> float:
    """One value of a memory.stat without taking the rest apart; NaN where it is missing."""
    if raw is None:
        return NAN
    at = 0 if raw.startswith(key + b" ") else raw.find(b"\n" + key + b" ") + 1
    if at == 0 and not raw.startswith(key + b" "):
        return NAN
    return parse_number(raw[at + len(key):].split(b"\n", 1)[0])


def parse_refaults(raw: bytes | None, prefix: bytes = b"") -> float:
    """Pages that came back after they had been dropped, by a memory.stat: files and anonymous memory together (one line
    before Linux 5.9); NaN where it does not tell."""
    found = [parse_stat_value(raw, prefix + b"workingset_refault" + kind) for kind in (b"_file", b"_anon", b"")]
    known = [value for value in found if not math.isnan(value)]
    return sum(known) if known else NAN


def quota_v1(quota: bytes | None, period: bytes | None) -> float:
    """Cores from cpu.cfs_quota_us and cpu.cfs_period_us; inf = none (-1), NaN = unreadable."""
    if quota is not None and quota.strip() == b"-1":
        return math.inf
    return _over(parse_number(quota), parse_number(period))


def quota_v2(cpu_max: bytes | None) -> float:
    """Cores from cpu.max ("max 100000", "50000 100000"); inf = none, NaN = unreadable.

    >>> quota_v2(b"50000 100000")
    0.5
    """
    quota, _, period = (cpu_max or b"").strip().partition(b" ")
    return _over(parse_number(quota), parse_number(period))


def _over(quota: float, period: float) -> float:
    return quota / period if period > 0 and math.isfinite(period) else NAN


def memory_limit_v1(raw: bytes | None) -> float:
    """Bytes; inf = none."""
    value = parse_number(raw)
    return math.inf if value >= V1_NO_LIMIT else value


def parse_blkio(raw: bytes | None) -> tuple[float, float]:
    """(read, written) bytes of a v1 io_service_bytes file, summed over devices; NaN where there is no such file.

    v1 counts reads and direct writes; buffered writes are written back by the kernel and counted for the root.
    """
    rows = [line.split() for line in (raw or b"").split(b"\n")]
    pairs = [(row[1], row[2]) for row in rows if len(row) == 3]
    nothing = 0.0 if any(row[0] == b"Total" for row in rows if len(row) == 2) else NAN
    return _total(pairs, b"Read", nothing), _total(pairs, b"Write", nothing)


def parse_io_stat(raw: bytes | None) -> tuple[float, float]:
    """(read, written) bytes of a v2 io.stat, summed over devices; NaN where there is no such file."""
    words = [word.partition(b"=") for word in (raw or b"").split()]
    pairs = [(key, value) for key, _, value in words]
    nothing = NAN if raw is None else 0.0
    return _total(pairs, b"rbytes", nothing), _total(pairs, b"wbytes", nothing)


def _total(pairs: list[tuple[bytes, bytes]], key: bytes, nothing: float) -> float:
    values = [float(value) for name, value in pairs if name == key and value.isdigit()]
    return sum(values) if values else nothing


def parse_pressure_total(raw: bytes | None, line: bytes = b"some") -> float:
    """Stalled seconds since boot of one line of a pressure file; NaN where it is missing."""
    for row in (raw or b"").split(b"\n"):
        if row.startswith(line + b" "):
            value = row.rpartition(b"total=")[2]
            return float(value) / 1e6 if value.isdigit() else NAN
    return NAN


def parse_proc_cgroup(raw: bytes) -> str:
    """The group of a process from /proc/PID/cgroup as one path, the same notion for v1, v2 and hybrid hosts.

    On v1 each controller may name another group. The first that is not the root counts, in the order cpu, memory,
    pids, blkio, unified, systemd; a longer path below that one is preferred.
    """
    paths: dict[str, str] = {}
    for line in raw.decode("utf-8", "surrogateescape").split("\n"):
        parts = line.split(":", 2)
        if len(parts) == 3:
            for name in parts[1].split(","):
                paths.setdefault(name, parts[2])
    found = [p for p in (paths.get(name, "/") for name in PATH_ORDER) if p != "/"]
    if not found:
        return "/" if paths else ""
    return shown(max((p for p in found if p == found[0] or p.startswith(found[0] + "/")), key=len))


def shown(path: str) -> str:
    """A group's path as text: whoever may make groups may name them with any byte, and not every byte is text."""
    return path if path.isprintable() else "".join(c if c.isprintable() else "?" for c in path)
