"""Users who watch as many files as they may (inotify), and who of their processes does.

Reads:  the open files of all processes, through the warden; /proc/sys/fs/inotify/max_user_{watches,instances}
Emits:  inotify_watches_used_ratio_max, inotify_instances_used_ratio_max; events inotify_exhausted, inotify_released
Needs:  a warden (open files of others take CAP_SYS_PTRACE)
Source: inotify(7); proc_pid_fdinfo(5)

At the limit inotify_add_watch fails with ENOSPC ("no space left on device", on an empty disk) and inotify_init with
EMFILE ("too many open files", with hardly any open): nobody thinks of inotify, and no counter of the kernel tells.
The limits hold for each user. An instance that was inherited over a fork is in the list of each process that has it:
where that gives more than the user may have, nothing is told rather than something wrong.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from collector.cgroup_files import slurp
from collector.process_files import parse_stat
from collector.table import NAN, Column, Fixed, emits, number
from etio.core.due import is_due
from etio.core.errors import Broken, NoData
from etio.core.event import Field, HostEvent
from etio.core.frame import NS, Reading
from etio.core.ports import CollectorSpec

COLUMNS = (
    Column("inotify_watches_used_ratio_max", "ratio", "gauge", "inotify watches of a user over the limit, the highest"),
    Column("inotify_instances_used_ratio_max", "ratio", "gauge",
           "inotify instances of a user over the limit, the highest"),
)
KINDS = ("watches", "instances")
SOURCE = "/proc/PID/fdinfo, fs.inotify.max_user_*"
NEAR = 0.7
"""From this share of a limit on, users are looked at in each period; else the pause grows with what a look costs."""
Row = tuple[int, int, int, int]
"""(pid, uid, instances, watches)"""
Source = Callable[[], tuple[Sequence[Row], bool, float] | None]


@dataclass(frozen=True, slots=True)
class Config:
    """full, low: shares of a limit at which it is told, and at which it is over. share: of one core that looking may
    cost while all is well."""

    full: float = 0.97
    low: float = 0.9
    share: float = 0.0001

    def __post_init__(self) -> None:
        if not 0.0 < self.low < self.full <= 1.0 or not self.share > 0:
            raise ValueError("0 < low < full <= 1, share above 0")


@dataclass(frozen=True, slots=True)
class Use:
    """What a user has of one kind, and which process has most of it."""

    uid: int
    kind: str
    used: int
    limit: float
    pid: int
    most: int

    @property
    def ratio(self) -> float:
        """NaN without a limit, and where more was counted than there can be: some instances are shared."""
        return self.used / self.limit if self.limit > 0 and self.used <= 1.02 * self.limit else NAN


def uses_of(rows: Sequence[Row], limits: Sequence[float]) -> list[Use]:
    """Each user's watches and instances. limits: of both, in the order of KINDS."""
    found = []
    for uid in sorted({row[1] for row in rows}):
        own = [row for row in rows if row[1] == uid]
        for place, (kind, limit) in zip((3, 2), zip(KINDS, limits, strict=True), strict=True):
            first = max(own, key=lambda row: row[place])
            found.append(Use(uid, kind, sum(row[place] for row in own), limit, first[0], first[place]))
    return found


class Inotify:
    """Collector of inotify watches. Given by the daemon: `source` asks the warden for (rows, whether they are all,
    seconds it took), None while that is busy."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._fixed = Fixed([c.series() for c in COLUMNS])
        self._root = Path("/")
        self._told: dict[tuple[str, int], str] = {}
        self._next_ns = 0
        self.source: Source | None = None

    def open(self, root: Path) -> None:
        """Raises NoData where there is no inotify, or no warden that could look."""
        self._root = root
        if not (root / "proc/sys/fs/inotify").is_dir():
            raise NoData(f"{root}/proc/sys/fs/inotify: not here")
        if self.source is None:
            raise NoData("no warden: nobody may look at the open files of others; "
                         "remedy: start as root, or install the units (etio-warden)")

    def collect(self, t_ns: int) -> Reading:
        """One reading; events for users at a limit, and when they have room again."""
        due = is_due(t_ns, self._next_ns, 3600 * NS)
        found = self.source() if due and self.source is not None else None
        if found is None:
            return self._fixed.reading([NAN, NAN])
        rows, whole, seconds = found
        uses = uses_of(rows, [self._limit(kind) for kind in KINDS])
        values = [max((u.ratio for u in uses if u.kind == kind and not math.isnan(u.ratio)), default=NAN)
                  for kind in KINDS]
        near = any(value >= NEAR for value in values)
        self._next_ns = 0 if near else t_ns + min(int(seconds / self._config.share * NS), 600 * NS)
        events = tuple(self._events(uses, t_ns)) if whole else ()
        return self._fixed.reading(values, None, events)

    def close(self) -> None:
        """May be called twice."""
        self._told = {}

    def _limit(self, kind: str) -> float:
        return number((slurp(str(self._root / f"proc/sys/fs/inotify/max_user_{kind}"), 32) or b"").strip())

    def _events(self, uses: Sequence[Use], t_ns: int) -> Iterator[HostEvent]:
        left = dict(self._told)
        for use in uses:
            key = use.kind, use.uid
            entity = left.pop(key, "")
            if use.ratio >= self._config.full and not entity:
                self._told[key] = f"uid={use.uid},what={use.kind}"
                yield HostEvent(t_ns, "inotify_exhausted", self._told[key], self._fields(use), SOURCE)
            elif entity and use.ratio < self._config.low:
                del self._told[key]
                yield HostEvent(t_ns, "inotify_released", entity, (), SOURCE)
        for key, entity in left.items():
            del self._told[key]
            yield HostEvent(t_ns, "inotify_released", entity, (), SOURCE)

    def _fields(self, use: Use) -> tuple[tuple[str, Field], ...]:
        try:
            comm = parse_stat(slurp(f"{self._root}/proc/{use.pid}/stat".replace("//", "/"), 4096) or b"").comm
        except Broken:
            comm = ""
        return (("used", use.used), ("limit", int(use.limit)), ("pid", use.pid), ("comm", comm), ("most", use.most))


COLLECTOR = CollectorSpec(
    name="inotify", config=Config, build=Inotify, reads="open files of all processes, through the warden",
    emits=emits(COLUMNS), needs="a warden (root)", source="inotify(7), proc_pid_fdinfo(5)", period_s=10.0, slow=True,
    optional=True,
)
