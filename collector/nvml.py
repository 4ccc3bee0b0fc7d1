"""NVIDIA GPUs through NVML.

Reads:  libnvidia-ml through the package nvidia-ml-py, in a process of its own (collector/gpu); /sys/bus/pci, /proc/PID
Emits:  gpu_* by GPU; events gpu_xid, gpu_minor_xid, gpu_program_xid, gpu_lost, gpu_back, gpu_unresponsive,
        gpu_responsive, gpu_driver_broken, gpu_driver_works. What a GPU lacks is asked once.
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
from collector.gpu.losses import Losses, entity_of, held_by_driver, module_version, pci_field, without_driver
from collector.gpu.names import COLUMNS, series_of
from collector.gpu.placement import Placement
from collector.gpu.session import Round, Told
from collector.gpu.slow import Holder
from collector.gpu.swing import SERIES, Swings
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
ENDS = {"gpu_unresponsive": "gpu_responsive", "gpu_driver_broken": "gpu_driver_works"}
"""Events of states in which nothing is known of any GPU, and those that end them."""


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
        self._places: dict[tuple[int, str, str], int] = {}
        """By index, uuid and name: after a start of the driver another GPU may have the number of one that is gone."""
        self._cards: dict[int, Told] = {}
        self._former: dict[str, str] = {}
        """PCI address to entity, of all that ever answered."""
        self._losses, self._swings = Losses(), Swings()
        self._opened = False
        """Whether it was opened since the last round: then the driver lists its GPUs anew."""
        self._holders: tuple[Holder, ...] = ()
        self._settings: dict[int, dict[str, str]] = {}
        self._far: dict[int, float] = {}
        self._waiting: list[_Waiting] = []
        self._limiter = Limiter(XIDS_AT_ONCE, XID_REFILL_S)
        self._fault: Broken | NoData | None = None
        self._unopened: Broken | NoData | None = None
        self._blind: set[str] = set()
        """What was told of ENDS and lasts."""
        self.told_by_kernel: Callable[[str, int, int], bool] | None = None

    def open(self, root: Path) -> None:
        """Starts the worker; NVML is that of the live host, only places are looked up below `root`.

        Raises NoData without driver, library or GPU, Broken where NVML fails or hangs again.
        """
        self._placement = Placement(root)
        _library()
        try:
            self._greeting = self._guard.open()
        except (Broken, NoData) as error:
            if self._blindness(error) in ("", *self._blind):
                raise
            self._unopened = error  # the first reading tells it
        self._cards, self._opened = {}, True

    def collect(self, t_ns: int) -> Reading:
        """One reading of every GPU. Raises Broken where NVML hangs; what it told before is told first."""
        if self._fault is not None:
            fault, self._fault = self._fault, None
            raise fault
        unopened, self._unopened = self._unopened, None
        try:
            if unopened is not None:
                raise unopened
            one = self._guard.read(t_ns)
        except (Broken, NoData) as error:
            return self._broken(error, t_ns)
        self._take(one)
        events = self._events(one, t_ns)
        works = [HostEvent(t_ns, ENDS[kind], "host", (), "NVML") for kind in sorted(self._blind)]
        self._blind.clear()
        return self._reading(one, (*events, *works))

    def _blindness(self, error: Broken | NoData) -> str:
        """Which of ENDS an error is: the driver hangs, or is there and cannot be used; "" = neither."""
        if isinstance(error, Hung):
            return "gpu_unresponsive"
        refused = isinstance(error, Broken) or bool(without_driver(self._placement.root))
        return "gpu_driver_broken" if refused and not self._guard.pids else ""

    def _broken(self, error: Broken | NoData, t_ns: int) -> Reading:
        """What there is to tell before the fault is raised, by the next reading."""
        events = self._events(Round(()), t_ns, hurry=True)
        kind = self._blindness(error)
        if kind and kind not in self._blind:
            self._blind.add(kind)
            events = (*events, HostEvent(t_ns, kind, "host", self._why(error), "NVML"))
        if not events:
            raise error
        self._fault = error
        return Reading(list(self._series), np.full(len(self._series), np.nan), None, events)

    def _why(self, error: Broken | NoData) -> tuple[tuple[str, Field], ...]:
        if isinstance(error, Hung):
            return ("call", error.call), ("seconds", error.seconds)
        root = self._placement.root
        bare = ", ".join(without_driver(root)[:8]) if isinstance(error, NoData) else ""
        told = {"module": module_version(root), "library": _library_version(), "gpus": bare, "reason": str(error)}
        return tuple((name, words) for name, words in told.items() if words)

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
        return self._former.get(self._placement.address(pci), "")

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
            if told.uuid and told.pci:
                self._former[told.pci] = entity_of(told)
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
        far, use = self._far.get(told.index), self._swings.take(told)
        more = {SERIES: use} if use == use else {}  # noqa: PLR0124 - NaN
        if far is not None and "gpu_processes" in told.values:
            more["gpu_processes_far"] = far
        return replace(told, values={**told.values, **more}) if more else told

    def _reading(self, one: Round, events: tuple[HostEvent, ...]) -> Reading:
        """Puts values in their places; a series is made when its first value comes."""
        cards = [self._complete(told) for told in one.told]
        for told in cards:
            for name in told.values:
                if (told.index, told.uuid, name) not in self._places:
                    self._place(told, name)
        out = np.full(len(self._series), np.nan)
        for told in cards:
            for name, value in told.values.items():
                at = self._places[told.index, told.uuid, name]
                if at >= 0:
                    out[at] = value
        return Reading(list(self._series), out, None, events)

    def _place(self, told: Told, name: str) -> None:
        series = series_of(name, labels(gpu=str(told.index), uuid=told.uuid))
        self._places[told.index, told.uuid, name] = len(self._series) if series is not None else -1
        if series is not None:
            self._series.append(series)

    # -- events -----------------------------------------------------------------------------------------------------

    def _events(self, one: Round, t_ns: int, hurry: bool = False) -> tuple[HostEvent, ...]:
        """GPUs that were lost, and XIDs that the kernel log has had time to tell and did not."""
        lost = self._lost(one, t_ns)
        self._waiting += [self._waiting_xid(xid, t_ns) for xid in self._guard.xids()]
        wait = 0 if hurry or self.told_by_kernel is None else HOLD_NS
        ripe = [w for w in self._waiting if t_ns - w.t_ns >= wait]
        self._waiting = [w for w in self._waiting if t_ns - w.t_ns < wait]
        events = (self._limiter.pass_on(w.event) for w in ripe if not self._known(w))
        return (*lost, *(event for event in events if event is not None))

    def _lost(self, one: Round, t_ns: int) -> list[HostEvent]:
        """GPUs that are gone or came back. What the driver holds and NVML does not list is told with its address, not
        with the number that it no longer has."""
        unlisted: list[HostEvent] = []
        if self._opened and one.told:
            self._opened = False
            held = held_by_driver(self._placement.root)
            for told in one.told:
                held.pop(told.pci, "")
            if all(told.pci for told in one.told if told.uuid):
                unlisted = self._losses.unlisted(held, self._former, t_ns)
        known = [told for told in one.told if told.uuid or not unlisted]
        return [*self._losses.take(known, t_ns), *unlisted]

    def _waiting_xid(self, told: Xid, t_ns: int) -> _Waiting:
        card = self._cards.get(told.index)
        pci = card.pci if card else ""
        entity = entity_of(card) if card else f"gpu={told.index}"
        fields: tuple[tuple[str, Field], ...] = (("xid", told.xid), *pci_field(pci))
        if told.instance >= 0:
            fields = (*fields, ("mig_instance", told.instance))
        return _Waiting(t_ns, HostEvent(t_ns, event_kind(told.xid), entity, fields, "NVML"), pci)

    def _known(self, waiting: _Waiting) -> bool:
        xid = waiting.event.get("xid")
        return self.told_by_kernel is not None and isinstance(xid, int) and self.told_by_kernel(
            waiting.pci, xid, waiting.t_ns)


def _words(told: dict[str, str]) -> str:
    return "; ".join(f"{name}: {words}" for name, words in told.items())


def _library() -> None:
    """Raises NoData where there is no library of the driver: then no process needs to be started to find out."""
    try:
        ctypes.CDLL(LIBRARY, mode=os.RTLD_LAZY)
    except OSError as error:
        raise NoData(f"no NVIDIA driver ({LIBRARY} is not there)") from error


def _library_version() -> str:
    """Of the library that new programs load, told by the name of its file; "" where it has none."""
    for folder in ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"):
        name = os.path.basename(os.path.realpath(f"{folder}/{LIBRARY}"))
        if name.startswith("libnvidia-ml.so.") and name != LIBRARY:
            return name.removeprefix("libnvidia-ml.so.")
    return ""


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
