"""Tasks that wait for a file lock which one process does not give back (flock, fcntl): who holds it, who waits.

Reads:  /proc/locks; /proc/PID/stat of a holder and some of those that wait for it, while at least one does
Emits:  file_lock_waiters, file_lock_waiters_of_one_max; events file_lock_pile, file_lock_free
Needs:  -; with hidepid or in a container, processes that cannot be seen are told by number
Source: proc_locks(5): "->" marks a lock that is blocked by the one above it; flock(2), fcntl(2)

Nothing else shows such a wait: nobody computes, nothing fails, the jobs merely never end. Cron jobs behind a run that
hangs, and tools behind a stopped one, are the usual cases. Waiting alone is no fault: a standby waits for its
leader's lock for years, and idle workers of one pool take turns at one (Postfix, Apache). So it is told when it
lasts with the same holder, and several wait that are not all of one pool with it, or the holder is stopped.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from collector.cgroup_files import slurp
from collector.files import File
from collector.process_files import Stat, parse_stat
from collector.table import Column, Fixed, emits
from etio.core.errors import Broken, NoData
from etio.core.event import HostEvent
from etio.core.frame import NS, Reading
from etio.core.ports import CollectorSpec

COLUMNS = (
    Column("file_lock_waiters", "1", "gauge", "tasks that wait for a file lock"),
    Column("file_lock_waiters_of_one_max", "1", "gauge", "tasks that wait for the same file lock, the most"),
)
SOURCE = "/proc/locks"
SAMPLE = 8
"""So many that wait are looked at."""
_LINE = re.compile(rb"^(\d+): +(->)? *(\w+) +\w+ +\w+ +(-?\d+) ([0-9a-f]+:[0-9a-f]+:\d+) ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Config:
    """waiters: so many at one lock are told, after lasting_s with the same holder; one is enough, after stopped_s,
    where the holder is stopped."""

    waiters: int = 3
    lasting_s: float = 20.0
    stopped_s: float = 5.0

    def __post_init__(self) -> None:
        if self.waiters < 1 or self.lasting_s < 0 or self.stopped_s < 0:
            raise ValueError("waiters must be at least 1, lasting_s and stopped_s at least 0")


@dataclass(frozen=True, slots=True)
class Held:
    """A lock that somebody waits for. file: device and inode, as the kernel writes them. holder: 0 where it is not
    known (a lock of an open file belongs to no process)."""

    file: str
    kind: str
    holder: int
    waiters: tuple[int, ...]


@dataclass(slots=True)
class _Wait:
    """One that is followed. told: an event was sent."""

    held: Held
    since_ns: int
    told: bool = False


def parse_locks(raw: bytes) -> list[Held]:
    """Locks that somebody waits for. Never raises."""
    holders: dict[bytes, tuple[bytes, bytes, int]] = {}
    waiting: dict[bytes, list[int]] = {}
    for number, blocked, kind, pid, file in _LINE.findall(raw):
        if blocked:
            waiting.setdefault(number, []).append(max(int(pid), 0))
        else:
            holders[number] = (file, kind, max(int(pid), 0))
    return [Held(holders[n][0].decode(), holders[n][1].decode().lower(), holders[n][2], tuple(waits))
            for n, waits in waiting.items() if n in holders]


class FileLocks:
    """Collector of waits for file locks."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._fixed = Fixed([c.series() for c in COLUMNS])
        self._proc = ""
        self._file: File | None = None
        self._waits: dict[tuple[str, str, int], _Wait] = {}

    def open(self, root: Path) -> None:
        """Raises NoData or Broken, naming the path."""
        self._proc = str(root).rstrip("/") + "/proc"
        self._file = File(root / "proc/locks")

    def collect(self, t_ns: int) -> Reading:
        """One reading; events for locks that many wait for, and when they are free. Raises NoData or Broken."""
        if self._file is None:
            raise NoData("/proc/locks: not open")
        found = parse_locks(self._file.read())
        counts = [len(one.waiters) for one in found]
        return self._fixed.reading([float(sum(counts)), float(max(counts, default=0))], None,
                                   tuple(self._follow(found, t_ns)))

    def close(self) -> None:
        """May be called twice."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _follow(self, found: Sequence[Held], t_ns: int) -> Iterator[HostEvent]:
        known, self._waits = self._waits, {}
        for held in found:
            key = held.file, held.kind, held.holder
            wait = self._waits[key] = known.pop(key, _Wait(held, t_ns))
            wait.held = held
            if not wait.told:
                yield from self._judge(wait, t_ns)
        for wait in known.values():
            if wait.told:
                yield HostEvent(t_ns, "file_lock_free", f"lock={wait.held.file}", (), SOURCE)

    def _judge(self, wait: _Wait, t_ns: int) -> Iterator[HostEvent]:
        """Whether a wait is told now."""
        held, seconds = wait.held, (t_ns - wait.since_ns) / NS
        if seconds < min(self._config.stopped_s, self._config.lasting_s):
            return
        holder = self._stat(held.holder)
        stopped = holder is not None and holder.state == "T" and seconds >= self._config.stopped_s
        many = len(held.waiters) >= self._config.waiters and seconds >= self._config.lasting_s
        waiters = [self._stat(pid) for pid in held.waiters[:SAMPLE]] if stopped or many else []
        if not stopped and (not many or _pool(holder, waiters)):
            return
        wait.told = True
        first = next((one for one in waiters if one is not None), None)
        yield HostEvent(t_ns, "file_lock_pile", f"lock={held.file}", (
            ("pid", held.holder), ("comm", holder.comm if holder else ""), ("state", holder.state if holder else ""),
            ("kind", held.kind), ("waiters", len(held.waiters)), ("seconds", round(seconds)),
            ("first_pid", held.waiters[0]), ("first_comm", first.comm if first else "")), SOURCE)

    def _stat(self, pid: int) -> Stat | None:
        try:
            return parse_stat(slurp(f"{self._proc}/{pid}/stat", 4096) or b"") if pid else None
        except Broken:
            return None


def _pool(holder: Stat | None, waiters: Sequence[Stat | None]) -> bool:
    """Whether those who wait are workers of one parent, and the holder is one of them or that parent."""
    kin = {(one.ppid, one.comm) for one in waiters if one is not None}
    return holder is not None and len(kin) == 1 and kin <= {(holder.ppid, holder.comm), (holder.pid, holder.comm)}


COLLECTOR = CollectorSpec(
    name="file_locks", config=Config, build=FileLocks, reads="/proc/locks: who waits for which file lock",
    emits=emits(COLUMNS), source="proc_locks(5), flock(2)", period_s=5.0, slow=True, optional=True,
)
