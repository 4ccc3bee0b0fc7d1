"""What goes into the engine (events) and what it asks for (actions)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from etio.core.alert import Alert, Incident
    from etio.core.frame import Frame
    from etio.core.report import Report
    from etio.core.season import Season

Field = str | int | float


@dataclass(frozen=True, slots=True)
class HostEvent:
    """Something that happened at one moment: an OOM kill, a link going down, an XID.

    kind: closed vocabulary, snake_case: oom_kill, link_down, link_up, gpu_xid, filesystem_readonly, clock_step ...
    entity: which thing, in the notation of Series.entity ("pid=4711", "device=eth0").
    fields: (name, value) pairs with units in the names, such as ("anon_rss_bytes", 1073741824).
    source: how it was seen, such as "eBPF oom:mark_victim".
    """

    t_ns: int
    kind: str
    entity: str
    fields: tuple[tuple[str, Field], ...] = ()
    source: str = ""

    def get(self, name: str) -> Field | None:
        """Value of one field, or None."""
        return next((v for k, v in self.fields if k == name), None)


def pid_of(entity: str) -> int:
    """The process id in an entity such as "pid=4711"; 0 where there is none."""
    text = next((part[4:] for part in entity.split(",") if part.startswith("pid=")), "")
    return int(text) if text.isdecimal() and len(text) < 12 else 0


@dataclass(frozen=True, slots=True)
class FrameReady:
    """A tick is complete."""

    frame: Frame


@dataclass(frozen=True, slots=True)
class CollectorFailed:
    """A collector raised or hung; its series are missing from now on. `fault` is False where there is just no data."""

    t_ns: int
    collector: str
    reason: str
    fault: bool = True


@dataclass(frozen=True, slots=True)
class ReportReady:
    """The RCA worker finished."""

    t_ns: int
    report: Report


@dataclass(frozen=True, slots=True)
class ReportFailed:
    """The RCA worker died, or passed its deadline."""

    t_ns: int
    incident_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class SeasonsReady:
    """The season worker finished: what the hours of the day and the week usually bring."""

    t_ns: int
    seasons: tuple[Season, ...]


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passes although no frame came."""

    t_ns: int


Event = FrameReady | HostEvent | CollectorFailed | ReportReady | ReportFailed | SeasonsReady | Tick


@dataclass(frozen=True, slots=True)
class Write:
    """Keep this for ever (as long as retention says)."""

    item: Alert | Incident | HostEvent | Report


@dataclass(frozen=True, slots=True)
class Notify:
    """Tell the outside: `alerts` of `incident` changed state, or its report is ready (`report` given).

    repeats: in words, how often the same trouble was told of late and from when on it waits; "" the first time.
    """

    incident: Incident
    alerts: tuple[Alert, ...]
    report: Report | None = None
    repeats: str = ""


@dataclass(frozen=True, slots=True)
class StartRca:
    """Explain this incident now."""

    incident: Incident


@dataclass(frozen=True, slots=True)
class Focus:
    """Look closer (sample processes each second) while something is pending or firing, or stop doing so."""

    on: bool


@dataclass(frozen=True, slots=True)
class Shed:
    """Over budget: switch this collector off and say so."""

    collector: str
    reason: str


Action = Write | Notify | StartRca | Focus | Shed
