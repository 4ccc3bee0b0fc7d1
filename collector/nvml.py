"""NVIDIA GPUs through NVML.

Reads:  libnvidia-ml through the package nvidia-ml-py, in a process of its own (collector/gpu); /sys/bus/pci, /proc/PID
Emits:  gpu_* by GPU; events gpu_xid, gpu_program_xid, gpu_lost, gpu_unresponsive. What a GPU lacks is asked once.
Needs:  the NVIDIA driver; without it there is no data, which is no fault
Source: NVML API reference (docs.nvidia.com/deploy/nvml-api)

A call can hang for minutes when a GPU is lost. Then the series go missing, the collector says in which call it hangs,
the process is ended and another one is started after a while that grows; the thread here never waits for longer than
`deadline_s`.
"""

import ctypes
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from collector.gpu.guard import Guard, Hung
from collector.gpu.names import COLUMNS, series_of
from collector.gpu.placement import Placement
from collector.gpu.session import Round, Told
from collector.gpu.slow import Holder
from collector.gpu.wire import Greeting, Xid
from collector.gpu.xid_kinds import event_kind
from collector.kmsg import Limiter
from collector.table import emits
from etio.core.errors import Broken, NoData
from etio.core.event import Field, HostEvent
from etio.core.frame import Reading
from etio.core.ports import CollectorSpec
from etio.core.series import Series, labels

LIBRARY = "libnvidia-ml.so.1"
XIDS_AT_ONCE, XID_REFILL_S = 10, 6.0
"""XIDs of one kind that are told at once, and how often one more after that; a program may cause thousands."""
HOLD_NS = 2_500_000_000
"""So long an XID waits for the kernel log, which tells more of it."""


@dataclass(frozen=True, slots=True)
class Config:
    """slow_s: seconds between readings of what changes rarely (limits, links, processes). deadline_s: after that a call
    is taken to hang. start_s: the same for the start, when the driver may have to wake the GPUs."""

    slow_s: float = 10.0
    deadline_s: float = 5.0
    start_s: float = 30.0

    def __post_init__(self) -> None:
        if not (self.slow_s > 0 and self.deadline_s > 0 and self.start_s > 0):
            raise ValueError("slow_s, deadline_s and start_s must be above 0")


@dataclass(frozen=True, slots=True)
class _Waiting:
    t_ns: int
    event: HostEvent
    pci: str


class Nvml:
    """The collector. Not thread-safe but for facts(), holders(), entity_of() and pids.

    told_by_kernel: whether the kernel log told this XID of the GPU at this PCI address at about that time; set by the
    daemon, so that one fault is one event.
    """

    def __init__(self, config: Config) -> None:
        self._guard = Guard(config.slow_s, config.deadline_s, config.start_s)
        self._greeting = Greeting()
        self._placement = Placement(Path("/"))
        self._series: list[Series] = []
        self._places: dict[tuple[int, str], int] = {}
        self._cards: dict[int, Told] = {}
        self._holders: tuple[Holder, ...] = ()
        self._settings: dict[int, dict[str, str]] = {}
        self._far: dict[int, float] = {}
        self._waiting: list[_Waiting] = []
        self._limiter = Limiter(XIDS_AT_ONCE, XID_REFILL_S)
        self._fault: Broken | None = None
        self._hung: Hung | None = None
        self._silent = False
        """Whether it was told that the driver does not answer."""
        self.told_by_kernel: Callable[[str, int, int], bool] | None = None

    def open(self, root: Path) -> None:
        """Starts the worker; NVML is that of the live host, only places are looked up below `root`.

        Raises NoData without driver, library or GPU, Broken where NVML fails or hangs again.
        """
        self._placement = Placement(root)
        _library()
        try:
            self._greeting = self._guard.open()
        except Hung as error:
            if self._silent:
                raise
            self._hung = error  # the first reading tells it

    def collect(self, t_ns: int) -> Reading:
        """One reading of every GPU. Raises Broken where NVML hangs; what it told before is told first."""
        if self._fault is not None:
            fault, self._fault = self._fault, None
            raise fault
        hung, self._hung = self._hung, None
        try:
            if hung is not None:
                raise hung
            one = self._guard.read(t_ns)
        except Broken as error:
            return self._broken(error, t_ns)
        self._take(one)
        events = self._events(one, t_ns)
        if self._silent:
            self._silent = False
            events = (*events, HostEvent(t_ns, "gpu_responsive", "host", (), "NVML"))
        return self._reading(one, events)

    def _broken(self, error: Broken, t_ns: int) -> Reading:
        """What there is to tell before the fault is raised, by the next reading."""
        events = self._events(Round(()), t_ns, hurry=True)
        if isinstance(error, Hung) and not self._silent:
            self._silent = True
            fields: tuple[tuple[str, Field], ...] = (("call", error.call), ("seconds", error.seconds))
            events = (*events, HostEvent(t_ns, "gpu_unresponsive", "host", fields, "NVML"))
        if not events:
            raise error
        self._fault = error
        return Reading(list(self._series), np.full(len(self._series), np.nan), None, events)

    def close(self) -> None:
        """Ends the worker; may be called twice."""
        self._guard.close()

    @property
    def pids(self) -> tuple[int, ...]:
        """The worker, which is etio's own."""
        return self._guard.pids

    def holders(self) -> tuple[Holder, ...]:
        """Who was on which GPU at the last slow reading."""
        return self._holders

    def entity_of(self, pci: str) -> str:
        """The GPU at a PCI address as its series call it ("gpu=0,uuid=GPU-..."); "" where there is none."""
        wanted = self._placement.address(pci)
        return next((_entity(card) for card in list(self._cards.values()) if card.pci == wanted and wanted), "")

    def facts(self) -> tuple[tuple[str, str], ...]:
        """For Facts.extra: ("gpu N", what it is and where it sits), ("gpu process gpu=N pid=P", who it is)."""
        driver = (("gpu driver", self._greeting.driver),) if self._greeting.driver else ()
        cards = [(f"gpu {i}", _words({**told, **self._placement.of(told.get("pci", ""))}))
                 for i, told in sorted(self._settings.items())]
        users = [self._placement.holder(h, self._cards.get(h.gpu)) for h in self._holders]
        return (*driver, *cards, *users)

    def _take(self, one: Round) -> None:
        for told in one.told:
            if told.uuid:
                self._cards[told.index] = told
        if one.holders is not None:
            self._holders, self._settings = one.holders, one.facts
            self._far = self._count_far()

    def _count_far(self) -> dict[int, float]:
        """Processes away from their GPU's node, for GPUs whose node is known."""
        found: dict[int, float] = {}
        for holder in self._holders:
            far = self._placement.is_far(holder, self._cards.get(holder.gpu))
            if far is not None:
                found[holder.gpu] = found.get(holder.gpu, 0.0) + far
        return found

    def _complete(self, told: Told) -> Told:
        far = self._far.get(told.index)
        if far is None or "gpu_processes" not in told.values:
            return told
        return replace(told, values={**told.values, "gpu_processes_far": far})

    def _reading(self, one: Round, events: tuple[HostEvent, ...]) -> Reading:
        """Puts values in their places; a series is made when its first value comes."""
        cards = [self._complete(told) for told in one.told]
        for told in cards:
            for name in told.values:
                if (told.index, name) not in self._places:
                    self._place(told, name)
        out = np.full(len(self._series), np.nan)
        for told in cards:
            for name, value in told.values.items():
                at = self._places[told.index, name]
                if at >= 0:
                    out[at] = value
        return Reading(list(self._series), out, None, events)

    def _place(self, told: Told, name: str) -> None:
        series = series_of(name, labels(gpu=str(told.index), uuid=told.uuid))
        self._places[told.index, name] = len(self._series) if series is not None else -1
        if series is not None:
            self._series.append(series)

    # -- events -----------------------------------------------------------------------------------------------------

    def _events(self, one: Round, t_ns: int, hurry: bool = False) -> tuple[HostEvent, ...]:
        """GPUs that were lost, and XIDs that the kernel log has had time to tell and did not."""
        lost = [HostEvent(t_ns, "gpu_lost", _entity(told), (*_pci(told.pci), ("reason", told.lost)), "NVML")
                for told in one.told if told.lost]
        self._waiting += [self._waiting_xid(xid, t_ns) for xid in self._guard.xids()]
        wait = 0 if hurry or self.told_by_kernel is None else HOLD_NS
        ripe = [w for w in self._waiting if t_ns - w.t_ns >= wait]
        self._waiting = [w for w in self._waiting if t_ns - w.t_ns < wait]
        events = (self._limiter.pass_on(w.event) for w in ripe if not self._known(w))
        return (*lost, *(event for event in events if event is not None))

    def _waiting_xid(self, told: Xid, t_ns: int) -> _Waiting:
        card = self._cards.get(told.index)
        pci = card.pci if card else ""
        entity = _entity(card) if card else f"gpu={told.index}"
        fields: tuple[tuple[str, Field], ...] = (("xid", told.xid), *_pci(pci))
        if told.instance >= 0:
            fields = (*fields, ("mig_instance", told.instance))
        return _Waiting(t_ns, HostEvent(t_ns, event_kind(told.xid), entity, fields, "NVML"), pci)

    def _known(self, waiting: _Waiting) -> bool:
        xid = waiting.event.get("xid")
        return self.told_by_kernel is not None and isinstance(xid, int) and self.told_by_kernel(
            waiting.pci, xid, waiting.t_ns)


def _entity(card: Told) -> str:
    return f"gpu={card.index},uuid={card.uuid}" if card.uuid else f"gpu={card.index}"


def _pci(pci: str) -> tuple[tuple[str, Field], ...]:
    return (("pci", pci),) if pci else ()


def _words(told: dict[str, str]) -> str:
    return "; ".join(f"{name}: {words}" for name, words in told.items())


def _library() -> None:
    """Raises NoData where there is no library of the driver: then no process needs to be started to find out."""
    try:
        ctypes.CDLL(LIBRARY, mode=os.RTLD_LAZY)
    except OSError as error:
        raise NoData(f"no NVIDIA driver ({LIBRARY} is not there)") from error


def gpu_names(seconds: float = 10.0) -> tuple[str, ...]:
    """Names of the GPUs by index, such as "NVIDIA H200". Raises NoData without driver, library or GPU.

    Raises Broken where NVML fails or does not answer within so many seconds.
    """
    _library()
    guard = Guard(60.0, seconds, seconds)
    try:
        return guard.open().names
    finally:
        guard.close()


COLLECTOR = CollectorSpec(
    name="nvml",
    config=Config,
    build=Nvml,
    reads="NVML (libnvidia-ml of the NVIDIA driver)",
    emits=emits(COLUMNS.values()),
    needs="NVIDIA driver",
    source="NVML API reference",
    slow=True,
    optional=True,
)
