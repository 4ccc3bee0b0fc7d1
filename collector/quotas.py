"""What the kernel gives out by count, against what it may give: asynchronous I/O, keys, semaphores, terminals, and
memory where it promises no more than there is (vm.overcommit_memory = 2).

Reads:  /proc/sys/fs/aio-{nr,max-nr}, /proc/key-users, /proc/sysvipc/{sem,shm,msg},
        /proc/sys/kernel/{sem,shmmni,msgmni,pty/nr,pty/max}; /proc/sys/vm/overcommit_memory, /proc/meminfo
Emits:  kernel_quota_used_ratio{quota}; events quota_exhausted, quota_released
Needs:  CONFIG_AIO, CONFIG_KEYS, CONFIG_SYSVIPC, CONFIG_UNIX98_PTYS, each for its own part
Source: Documentation/admin-guide/sysctl/{fs,kernel}.rst; keyrings(7), proc_key-users(5), sysvipc(7), pty(7);
        Documentation/mm/overcommit-accounting.rst

At such a limit io_setup fails with EAGAIN, add_key with EDQUOT, semget, shmget and msgget with ENOSPC ("no space left
on device", on an empty disk). No counter of the kernel tells, and databases, containers and whoever logs in fail.
Keys are counted for each user (root's own limit is far away), System V objects in the daemon's own IPC namespace.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from collector.cgroup_files import slurp
from collector.table import NAN, Column, Table, emits, number
from etio.core.errors import NoData
from etio.core.event import HostEvent
from etio.core.frame import Reading
from etio.core.ports import CollectorSpec
from etio.core.series import Series

COLUMN = Column("kernel_quota_used_ratio", "ratio", "gauge", "what the kernel has given out of what it may", ("quota",))
SOURCE = "/proc/sys, /proc/key-users, /proc/sysvipc"
COMMITTED = "MiB of committed memory"
STRICT = b"2"
_COMMIT = re.compile(rb"^(CommitLimit|Committed_AS):\s+(\d{1,18}) kB$", re.MULTILINE)
MOST_BYTES = 1 << 20
"""A list of System V objects is read so far; a longer one leaves its part without a value."""


@dataclass(frozen=True, slots=True)
class Config:
    """full, low: shares of a limit at which it is told, and at which it is over."""

    full: float = 0.95
    low: float = 0.85

    def __post_init__(self) -> None:
        if not 0.0 < self.low < self.full <= 1.0:
            raise ValueError("0 < low < full <= 1")


@dataclass(frozen=True, slots=True)
class Use:
    """How much of one quota is in use. uid, pid, own: of who has most of it and how much; -1 and 0 = unknown."""

    quota: str
    used: float
    limit: float
    knob: str
    uid: int = -1
    pid: int = 0
    own: int = 0

    @property
    def ratio(self) -> float:
        """NaN where it is unknown."""
        return self.used / self.limit if self.limit > 0 else NAN


def parse_key_users(raw: bytes) -> list[tuple[int, float, float, float, float]]:
    """(uid, keys, most keys, bytes, most bytes) of each user: `uid: usage n/m keys/most bytes/most`. Never raises."""
    found = []
    for line in raw.split(b"\n"):
        words = line.replace(b":", b" ").replace(b"/", b" ").split()
        if len(words) == 8 and words[0].isdigit():
            keys, most, size, most_size = map(number, words[4:])
            found.append((int(words[0]), keys, most, size, most_size))
    return found


def parse_owners(raw: bytes, column: bytes) -> Counter[int] | None:
    """How many objects of /proc/sysvipc each number in a column (a uid, or the pid of who made it) has; None where the
    list has no such column or was cut off. Never raises."""
    lines = raw.split(b"\n")
    head = lines[0].split()
    if column not in head or lines[-1]:
        return None
    place = head.index(column)
    rows = (line.split() for line in lines[1:-1])
    return Counter(int(row[place]) for row in rows if len(row) > place and row[place].isdigit())


def parse_commit(raw: bytes) -> tuple[float, float]:
    """(memory promised, most that may be) of /proc/meminfo, in MiB; NaN where it does not tell. Never raises.

    >>> parse_commit(b"CommitLimit:   2048 kB\\nCommitted_AS:   1024 kB\\n")
    (1.0, 2.0)
    """
    found = {name: number(kib) / 1024 for name, kib in _COMMIT.findall(raw)}
    return found.get(b"Committed_AS", NAN), found.get(b"CommitLimit", NAN)


def _series(quota: str) -> tuple[Series, ...]:
    return (COLUMN.series(quota),)


class Quotas:
    """Collector of what the kernel gives out by count."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._table = Table()
        self._root = Path("/")
        self._told: set[str] = set()

    def open(self, root: Path) -> None:
        """Raises NoData where the kernel has none of them."""
        self._root = root
        if not any(use.ratio == use.ratio for use in self._uses()):
            raise NoData(f"{root}/proc: neither asynchronous I/O nor keys nor System V objects nor terminals")

    def collect(self, t_ns: int) -> Reading:
        """One reading; events for quotas that are used up, and when there is room again."""
        uses = [use for use in self._uses() if use.ratio == use.ratio]
        self._table.start()
        for use in uses:
            self._table.put(use.quota, partial(_series, use.quota), [use.ratio])
        return self._table.reading(tuple(self._events(uses, t_ns)))

    def close(self) -> None:
        """May be called twice."""
        self._told = set()

    def _uses(self) -> Iterator[Use]:
        sem = self._read("proc/sys/kernel/sem").split()
        yield Use("asynchronous I/O requests", self._number("proc/sys/fs/aio-nr"),
                  self._number("proc/sys/fs/aio-max-nr"), "fs.aio-max-nr")
        yield from self._keys()
        yield self._objects("semaphore sets", "sem", b"uid", number(sem[3]) if len(sem) == 4 else NAN, "kernel.sem")
        yield self._objects("shared memory segments", "shm", b"cpid", self._number("proc/sys/kernel/shmmni"),
                            "kernel.shmmni")
        yield self._objects("message queues", "msg", b"uid", self._number("proc/sys/kernel/msgmni"),
                            "kernel.msgmni")
        yield Use("terminals", self._number("proc/sys/kernel/pty/nr"), self._number("proc/sys/kernel/pty/max"),
                  "kernel.pty.max")
        if self._read("proc/sys/vm/overcommit_memory", 16).strip() == STRICT:
            yield Use(COMMITTED, *parse_commit(self._read("proc/meminfo")), "vm.overcommit_ratio")
        elif COMMITTED in self._told:  # nothing limits it any more
            yield Use(COMMITTED, 0.0, 1.0, "vm.overcommit_ratio")

    def _keys(self) -> Iterator[Use]:
        """The users that are nearest to their limits of keys and of bytes in them."""
        users = parse_key_users(self._read("proc/key-users"))
        found = [Use("keys", keys, most, "kernel.keys.maxkeys", uid, own=int(keys)) for uid, keys, most, *_ in users]
        sizes = [Use("bytes of keys", size, most, "kernel.keys.maxbytes", uid, own=int(size))
                 for uid, _, _, size, most in users]
        for uses in (found, sizes):
            known = [use for use in uses if use.ratio == use.ratio]
            if known:
                yield max(known, key=lambda use: use.ratio)

    def _objects(self, quota: str, file: str, column: bytes, limit: float, knob: str) -> Use:
        raw = self._read(f"proc/sysvipc/{file}", MOST_BYTES)
        owners = parse_owners(raw, column)
        if owners is None:
            return Use(quota, NAN, limit, knob)
        who, own = owners.most_common(1)[0] if owners else (-1, 0)
        used = float(owners.total())
        return Use(quota, used, limit, knob, -1, max(who, 0), own) if column == b"cpid" else \
            Use(quota, used, limit, knob, who, 0, own)

    def _events(self, uses: list[Use], t_ns: int) -> Iterator[HostEvent]:
        for use in uses:
            if use.ratio >= self._config.full and use.quota not in self._told:
                self._told.add(use.quota)
                yield HostEvent(t_ns, "quota_exhausted", f"quota={use.quota}", (
                    ("used", int(use.used)), ("limit", int(use.limit)), ("knob", use.knob), ("uid", use.uid),
                    ("pid", use.pid), ("own", use.own)), SOURCE)
            elif use.ratio < self._config.low and use.quota in self._told:
                self._told.discard(use.quota)
                yield HostEvent(t_ns, "quota_released", f"quota={use.quota}", (), SOURCE)

    def _read(self, path: str, size: int = 65_536) -> bytes:
        return slurp(str(self._root / path), size) or b""

    def _number(self, path: str) -> float:
        return number(self._read(path, 64).strip())


COLLECTOR = CollectorSpec(
    name="quotas", config=Config, build=Quotas,
    reads="/proc/sys/fs/aio-nr, /proc/key-users, /proc/sysvipc, /proc/sys/kernel/pty, and their limits; /proc/meminfo",
    emits=emits((COLUMN,)), source="sysctl documentation; keyrings(7), sysvipc(7)", period_s=5.0, optional=True,
)
