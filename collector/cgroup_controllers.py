"""The controllers of control groups, v1 and v2 behind one face: limits and readings of one group.

Reads: the files of one group, through a function that is handed in (some callers hold files open, some do not).
Source: Documentation/admin-guide/cgroup-v1/{cpuacct,memory,pids,blkio-controller}.rst, scheduler/sched-bwc.rst,
admin-guide/cgroup-v2.rst of the kernel.
"""

import math
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Protocol

from collector.cgroup_files import (
    NAN,
    Mounts,
    memory_limit_v1,
    parse_blkio,
    parse_flat,
    parse_io_stat,
    parse_number,
    parse_pressure_total,
    parse_refaults,
    parse_stat_value,
    quota_v1,
    quota_v2,
)

Read = Callable[[str], bytes | None]


@dataclass(frozen=True, slots=True)
class Throttling:
    """periods and throttled_periods: counts; throttled_seconds: over all cores. NaN = not told."""

    periods: float = NAN
    throttled_periods: float = NAN
    throttled_seconds: float = NAN


@dataclass(frozen=True, slots=True)
class Kept:
    """What memory.stat tells, children included; NaN = not told.

    inactive_file: bytes of file cache that the kernel drops first, and at little cost. refaults: pages so far that came
    back after the kernel had dropped them.
    """

    inactive_file: float = NAN
    refaults: float = NAN


@dataclass(frozen=True, slots=True)
class Ooms:
    """kills: processes of the group that the OOM killer ended so far. waiting: 1 = its processes wait for memory that
    somebody else must free, for the killer is off (v1). NaN = not told."""

    kills: float = NAN
    waiting: float = NAN


class Cpu(Protocol):
    """CPU time and its quota."""

    @property
    def top(self) -> str:
        """Directory of its hierarchy."""

    def quota(self, path: str, read: Read) -> float:
        """Cores; inf = none, NaN = unknown."""

    def seconds(self, path: str, read: Read) -> float:
        """CPU seconds used so far, children included."""

    def throttling(self, path: str, read: Read) -> Throttling:
        """What the quota did so far."""


class Memory(Protocol):
    """Memory charged to a group."""

    @property
    def top(self) -> str:
        """Directory of its hierarchy."""

    def limit(self, path: str, read: Read) -> float:
        """Bytes; inf = none, NaN = unknown."""

    def usage(self, path: str, read: Read) -> float:
        """Bytes charged now, page cache and children included."""

    def kept(self, path: str, read: Read) -> Kept:
        """What of that could be dropped, and what came back."""

    def failures(self, path: str, read: Read) -> float:
        """How often the group ran into its limit (v1 memory.failcnt; v2 memory.events max + high)."""

    def ooms(self, path: str, read: Read) -> Ooms:
        """What happened where it could free nothing more."""


class Pids(Protocol):
    """Number of tasks."""

    @property
    def top(self) -> str:
        """Directory of its hierarchy."""

    def limit(self, path: str, read: Read) -> float:
        """Tasks; inf = none, NaN = unknown."""

    def current(self, path: str, read: Read) -> float:
        """Tasks now, children included."""


class Io(Protocol):
    """Block I/O."""

    @property
    def top(self) -> str:
        """Directory of its hierarchy."""

    def bytes(self, path: str, read: Read) -> tuple[float, float]:
        """(read, written) bytes so far."""


@dataclass(frozen=True, slots=True)
class CpuV1:
    """cpu and cpuacct; `acct` is "" where only cpu is mounted."""

    top: str
    acct: str

    def quota(self, path: str, read: Read) -> float:
        """Cores: cpu.cfs_quota_us over cpu.cfs_period_us."""
        base = f"{self.top}{path}/cpu.cfs_"
        return quota_v1(read(base + "quota_us"), read(base + "period_us"))

    def seconds(self, path: str, read: Read) -> float:
        """Seconds: cpuacct.usage, which is in nanoseconds."""
        return parse_number(read(f"{self.acct}{path}/cpuacct.usage")) / 1e9 if self.acct else NAN

    def throttling(self, path: str, read: Read) -> Throttling:
        """cpu.stat; throttled_time is in nanoseconds."""
        stat = parse_flat(read(f"{self.top}{path}/cpu.stat"))
        return Throttling(stat.get(b"nr_periods", NAN), stat.get(b"nr_throttled", NAN),
                          stat.get(b"throttled_time", NAN) / 1e9)


@dataclass(frozen=True, slots=True)
class CpuV2:
    """cpu; its cpu.stat tells the time used even where the controller is off."""

    top: str

    def quota(self, path: str, read: Read) -> float:
        """Cores: the two numbers of cpu.max."""
        return quota_v2(read(f"{self.top}{path}/cpu.max"))

    def seconds(self, path: str, read: Read) -> float:
        """Seconds: usage_usec of cpu.stat, in microseconds."""
        return parse_flat(read(f"{self.top}{path}/cpu.stat")).get(b"usage_usec", NAN) / 1e6

    def throttling(self, path: str, read: Read) -> Throttling:
        """cpu.stat; throttled_usec is in microseconds."""
        stat = parse_flat(read(f"{self.top}{path}/cpu.stat"))
        return Throttling(stat.get(b"nr_periods", NAN), stat.get(b"nr_throttled", NAN),
                          stat.get(b"throttled_usec", NAN) / 1e6)


@dataclass(frozen=True, slots=True)
class MemoryV1:
    """memory."""

    top: str

    def limit(self, path: str, read: Read) -> float:
        """Bytes: memory.limit_in_bytes."""
        return memory_limit_v1(read(f"{self.top}{path}/memory.limit_in_bytes"))

    def usage(self, path: str, read: Read) -> float:
        """Bytes: memory.usage_in_bytes."""
        return parse_number(read(f"{self.top}{path}/memory.usage_in_bytes"))

    def kept(self, path: str, read: Read) -> Kept:
        """memory.stat: the lines that begin with total_."""
        raw = read(f"{self.top}{path}/memory.stat")
        return Kept(parse_stat_value(raw, b"total_inactive_file"), parse_refaults(raw, b"total_"))

    def failures(self, path: str, read: Read) -> float:
        """memory.failcnt."""
        return parse_number(read(f"{self.top}{path}/memory.failcnt"))

    def ooms(self, path: str, read: Read) -> Ooms:
        """memory.oom_control: oom_kill (Linux 4.13) and under_oom."""
        told = parse_flat(read(f"{self.top}{path}/memory.oom_control"))
        return Ooms(told.get(b"oom_kill", NAN), told.get(b"under_oom", NAN))


@dataclass(frozen=True, slots=True)
class MemoryV2:
    """memory; the limit is the lower of memory.max and memory.high, for both make the group wait."""

    top: str

    def limit(self, path: str, read: Read) -> float:
        """Bytes: the lower of memory.max and memory.high."""
        limits = [parse_number(read(f"{self.top}{path}/memory.{name}")) for name in ("max", "high")]
        return min((v for v in limits if not math.isnan(v)), default=NAN)

    def usage(self, path: str, read: Read) -> float:
        """Bytes: memory.current."""
        return parse_number(read(f"{self.top}{path}/memory.current"))

    def kept(self, path: str, read: Read) -> Kept:
        """memory.stat."""
        raw = read(f"{self.top}{path}/memory.stat")
        return Kept(parse_stat_value(raw, b"inactive_file"), parse_refaults(raw))

    def failures(self, path: str, read: Read) -> float:
        """max and high of memory.events; NaN where one is missing."""
        events = parse_flat(read(f"{self.top}{path}/memory.events"))
        return events.get(b"max", NAN) + events.get(b"high", NAN)

    def ooms(self, path: str, read: Read) -> Ooms:
        """oom_kill of memory.events; the killer cannot be switched off."""
        return Ooms(parse_flat(read(f"{self.top}{path}/memory.events")).get(b"oom_kill", NAN))


@dataclass(frozen=True, slots=True)
class PidsBoth:
    """pids, the same files in v1 and v2."""

    top: str

    def limit(self, path: str, read: Read) -> float:
        """Tasks: pids.max."""
        return parse_number(read(f"{self.top}{path}/pids.max"))

    def current(self, path: str, read: Read) -> float:
        """Tasks: pids.current."""
        return parse_number(read(f"{self.top}{path}/pids.current"))


@dataclass(frozen=True, slots=True)
class IoV1:
    """blkio, as its throttling layer counts it (whatever the I/O scheduler)."""

    top: str

    def bytes(self, path: str, read: Read) -> tuple[float, float]:
        """(read, written): blkio.throttle.io_service_bytes, with children where there is a _recursive."""
        base = f"{self.top}{path}/blkio.throttle.io_service_bytes"
        found = read(base + "_recursive")
        return parse_blkio(found if found is not None else read(base))


@dataclass(frozen=True, slots=True)
class IoV2:
    """io."""

    top: str

    def bytes(self, path: str, read: Read) -> tuple[float, float]:
        """(read, written): rbytes and wbytes of io.stat."""
        return parse_io_stat(read(f"{self.top}{path}/io.stat"))


@dataclass(frozen=True, slots=True)
class Controllers:
    """What this host has. A controller is in v1 or in v2, never in both; None = not mounted at all."""

    cpu: Cpu | None
    memory: Memory | None
    pids: Pids | None
    io: Io | None
    v2: str

    def within(self, tops: Container[str]) -> "Controllers":
        """Those for which a group exists that is found below `tops`: on v1 each controller has its own tree."""
        return Controllers(
            self.cpu if self.cpu and self.cpu.top in tops else None,
            self.memory if self.memory and self.memory.top in tops else None,
            self.pids if self.pids and self.pids.top in tops else None,
            self.io if self.io and self.io.top in tops else None,
            self.v2 if self.v2 in tops else "",
        )

    def stalled_seconds(self, path: str, read: Read) -> float:
        """Seconds in which some task of the group waited for memory (v2 only); NaN where not told."""
        return parse_pressure_total(read(f"{self.v2}{path}/memory.pressure")) if self.v2 else NAN


def controllers(mounts: Mounts) -> Controllers:
    """The controllers of a host by where they are mounted."""
    v1, v2 = mounts.v1, mounts.v2
    held = {name: v2 for name in mounts.v2_controllers}
    cpu: Cpu | None = CpuV2(v2) if v2 and not {"cpu", "cpuacct"} & set(v1) else None
    if "cpu" in v1 or "cpuacct" in v1:
        cpu = CpuV1(v1.get("cpu", v1.get("cpuacct", "")), v1.get("cpuacct", ""))
    memory: Memory | None = MemoryV2(v2) if "memory" in held else None
    if "memory" in v1:
        memory = MemoryV1(v1["memory"])
    pids = v1.get("pids") or held.get("pids")
    io: Io | None = IoV2(v2) if "io" in held else None
    if "blkio" in v1:
        io = IoV1(v1["blkio"])
    return Controllers(cpu, memory, PidsBoth(pids) if pids else None, io, v2)
