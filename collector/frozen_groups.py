"""Control groups that the freezer holds: their processes keep connections and locks, and none of them runs.

Reads:  freezer.state (v1) or cgroup.events (v2) of the groups, which are looked for every 20 seconds; cgroup.procs of
        those that are frozen
Emits:  cgroup_frozen_groups; events group_frozen, group_thawed
Source: Documentation/admin-guide/cgroup-v2.rst (cgroup.freeze, cgroup.events), cgroup-v1/freezer-subsystem.rst

`docker pause`, backups of containers and checkpoints freeze a group, and may die before they thaw it. A stopped process
shows in its state, a frozen one looks like any that sleeps. What is frozen for moments, as snapshots do, is not told.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from collector.cgroup_files import find_mounts, members_of, shown, slurp, walk
from collector.cgroup_scan import Held
from collector.table import Column, Fixed, emits
from etio.core.errors import Broken, NoData
from etio.core.event import Field, HostEvent
from etio.core.facts import unit_of
from etio.core.frame import NS, Reading
from etio.core.ports import CollectorSpec

COLUMNS = (Column("cgroup_frozen_groups", "1", "gauge", "control groups with processes that the freezer holds"),)
SOURCE = "freezer.state, cgroup.events"
RESCAN_NS = 20 * NS
BELOW = 64
"""Groups below a frozen one in which its processes are looked for."""


@dataclass(frozen=True, slots=True)
class Config:
    """groups: most groups that are followed. lasting_s: what is frozen for so long is told."""

    groups: int = 512
    lasting_s: float = 18.0

    def __post_init__(self) -> None:
        if self.groups < 1 or not self.lasting_s > 0:
            raise ValueError("groups must be at least 1, lasting_s positive")


@dataclass(slots=True)
class _Frozen:
    since_ns: int
    told: bool = False


def is_frozen(raw: bytes | None) -> bool:
    """Whether a freezer.state or cgroup.events says so. Never raises."""
    lines = (raw or b"").split(b"\n")
    return lines[0].strip() == b"FROZEN" or b"frozen 1" in lines


class FrozenGroups:
    """Collector of frozen groups."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._fixed = Fixed([c.series() for c in COLUMNS])
        self._proc = self._top = self._file = ""
        self._groups: tuple[str, ...] = ()
        self._scan_ns = 0
        self._held = Held()
        self._frozen: dict[str, _Frozen] = {}

    def open(self, root: Path) -> None:
        """Raises NoData where no hierarchy can freeze, Broken without /proc."""
        mounts = find_mounts(root)
        self._proc = str(root).rstrip("/") + "/proc"
        freezer = mounts.v1.get("freezer", "")
        self._top, self._file = (freezer, "freezer.state") if freezer else (mounts.v2, "cgroup.events")
        if not self._top:
            raise NoData("no hierarchy of control groups that can freeze is mounted")

    def collect(self, t_ns: int) -> Reading:
        """One reading; events for what has been frozen for long, or runs again. Raises Broken before open()."""
        if not self._top:
            raise Broken("not open")
        if not self._scan_ns or not 0 <= t_ns - self._scan_ns < RESCAN_NS:
            self._scan_ns = t_ns
            self._groups = tuple(islice((p for p in walk(self._top) if p), self._config.groups))
            self._held.keep_below((self._top,), set(self._groups))
        now = {p for p in self._groups if is_frozen(self._held.read(f"{self._top}{p}/{self._file}"))}
        now = {p for p in now if not any(p.startswith(other + "/") for other in now)}  # what is above holds it
        events = [*self._begun(now, t_ns), *self._over(now, t_ns)]
        return self._fixed.reading([float(len(self._frozen))], None, tuple(events))

    def close(self) -> None:
        """May be called twice."""
        self._held.close()

    def _begun(self, now: set[str], t_ns: int) -> Iterator[HostEvent]:
        for path in sorted(now):
            pids = self._members(path) if path not in self._frozen or not self._frozen[path].told else []
            if pids:
                one = self._frozen.setdefault(path, _Frozen(t_ns))
                if t_ns - one.since_ns >= self._config.lasting_s * NS:
                    one.told = True
                    yield HostEvent(t_ns, "group_frozen", f"cgroup={shown(path)}", self._fields(path, pids), SOURCE)

    def _over(self, now: set[str], t_ns: int) -> Iterator[HostEvent]:
        for path in [p for p in self._frozen if p not in now]:
            if self._frozen.pop(path).told:
                yield HostEvent(t_ns, "group_thawed", f"cgroup={shown(path)}", (), SOURCE)

    def _fields(self, path: str, pids: list[int]) -> tuple[tuple[str, Field], ...]:
        comm = (slurp(f"{self._proc}/{pids[0]}/comm", 64) or b"").decode("utf-8", "replace").rstrip("\n")
        return (("comm", comm), ("pid", pids[0]), ("processes", len(pids)), ("unit", unit_of(shown(path))))

    def _members(self, path: str) -> list[int]:
        """Processes of a group and of those below it, the oldest first."""
        return sorted({pid for some in members_of(self._top + path, BELOW) for pid in some})


COLLECTOR = CollectorSpec(
    name="frozen_groups", config=Config, build=FrozenGroups, reads="freezer.state or cgroup.events of the groups",
    emits=emits(COLUMNS), source="Documentation/admin-guide/cgroup-v2.rst", period_s=10.0, optional=True,
)
