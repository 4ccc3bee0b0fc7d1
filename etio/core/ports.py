"""The roles. A room implements one of these and is plugged in by the daemon; no room knows another."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from etio.core.alert import Alert, Incident
from etio.core.event import HostEvent
from etio.core.frame import Floats, Frame, Reading
from etio.core.report import Report
from etio.core.score import Band, Scores, Shift
from etio.core.season import Season
from etio.core.series import Series
from etio.core.status import Status


class Collector(Protocol):
    """Reads one source of the host. Lives in `collector/<name>.py` as COLLECTOR = CollectorSpec(...)."""

    def open(self, root: Path) -> None:
        """Opens files below `root` ("/" on a live host). Raises NoData (not here) or Broken (unreadable)."""

    def collect(self, t_ns: int) -> Reading:
        """One reading. Raises Broken when the source can no longer be understood."""

    def close(self) -> None:
        """Gives everything back; may be called twice."""


@runtime_checkable
class Resting(Protocol):
    """A collector that sometimes has nothing to do for longer than its period."""

    @property
    def rest_s(self) -> float:
        """Seconds for which it need not be read again, seen from its last reading; 0 = its period holds."""


@runtime_checkable
class Deferring(Protocol):
    """A collector that reads now and may make its reading of that some ticks later: code that has just run is warm."""

    def grab(self, t_ns: int) -> Callable[[], Reading] | Reading:
        """Reads. What it returns makes the reading; it is called once, in the order of the grabs.

        Or the reading itself, where that must not wait. Raises as collect(), and so does what it returns.
        """


@dataclass(frozen=True, slots=True)
class Emits:
    """One series name that a collector emits, for the README table and `etio list`."""

    name: str
    unit: str
    labels: tuple[str, ...] = ()
    help: str = ""


@dataclass(frozen=True, slots=True)
class CollectorSpec:
    """The constant COLLECTOR of each collector module; making it does no I/O.

    period_s: seconds between readings by default. slow: runs in a thread of its own (calls that can block).
    optional: may be shed when over budget. config: frozen dataclass of its settings; build: its factory.
    """

    name: str
    config: type[Any]
    build: Any  # Callable[[config], Collector]
    reads: str
    emits: tuple[Emits, ...]
    needs: str = ""
    source: str = ""
    period_s: float = 1.0
    slow: bool = False
    optional: bool = False


class Detector(Protocol):
    """Scores frames. Lives in `detectors/<name>.py` as DETECTOR = DetectorSpec(...)."""

    name: str

    def step(self, frame: Frame) -> Scores:
        """Scores the frame against what was learned before it, then learns from it. Pure but for its own state."""

    def band(self) -> Band | None:
        """Expected range of each series of the last frame, or None where the detector has no such notion."""

    def snapshot(self) -> Mapping[str, Any]:
        """State as plain values and arrays, enough to go on after a restart."""

    def restore(self, state: Mapping[str, Any], series: tuple[Series, ...]) -> None:
        """Takes a snapshot back; unknown or ill-shaped state raises Broken and leaves the detector fresh."""


@runtime_checkable
class Localiser(Protocol):
    """A detector of groups that can say which series carry a group's score."""

    def carriers(self, group: str, most: int = 3, /) -> list[tuple[Series, float]]:
        """Series that carried the last score of `group`, strongest first, each with its share of 0..1."""


@runtime_checkable
class Knowing(Protocol):
    """A detector that has learned something a report or a person may ask for."""

    def facts(self) -> tuple[tuple[str, str], ...]:
        """What it expects of things now, as pairs for Facts.extra."""

    def steps(self) -> Mapping[tuple[str, str], Floats]:
        """(inference server, model) to float64[n, 3]: sequences, tokens, milliseconds of its engine's steps."""


@runtime_checkable
class Expecting(Protocol):
    """A detector that is told what each hour usually brings."""

    def expect(self, seasons: Sequence[Season], /) -> None:
        """Takes new seasons in, in place of older ones of the same series."""

    def season(self, key: str, /) -> Season | None:
        """The season of the series with this key, or None."""


@runtime_checkable
class ChangePoints(Protocol):
    """A detector that verifies lasting shifts of single series."""

    def shifts(self) -> list[tuple[Series, Shift]]:
        """Series whose shift was verified by the last frame."""


@dataclass(frozen=True, slots=True)
class DetectorSpec:
    """The constant DETECTOR of each detector module. `scope` is what its scores speak of."""

    name: str
    config: type[Any]
    build: Any  # Callable[[config], Detector]
    scope: str  # "series" | "group" | "rule"
    help: str


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of history: t_ns int64[k] ascending, values float64[k, n] aligned with `series` (n); NaN = no value."""

    series: tuple[Series, ...]
    t_ns: NDArray[np.int64]
    values: Floats


class History(Protocol):
    """The read side that the rest of the program sees."""

    def window(self, start_ns: int, end_ns: int, names: Sequence[str] | None = None) -> Window:
        """All samples of the series with these names (None: all series) in [start_ns, end_ns]."""

    def events(self, start_ns: int, end_ns: int) -> Sequence[HostEvent]:
        """Host events in [start_ns, end_ns], oldest first."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One series for drawing: at most the asked number of points, each the min, mean and max of its stretch.

    t_ns int64[k]; low, mean, high float64[k], NaN where a stretch holds no value.
    """

    series: Series
    t_ns: NDArray[np.int64]
    low: Floats
    mean: Floats
    high: Floats


@dataclass(frozen=True, slots=True)
class QueryResult:
    """Answer to a person's SQL. rows: plain values; truncated: True when max_rows cut it."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    truncated: bool


class Archive(History, Protocol):
    """History and everything else that was kept; safe to use from any thread."""

    def series(self) -> Sequence[Series]:
        """Every series that has samples or had them within retention."""

    def curve(self, key: str, start_ns: int, end_ns: int, points: int = 600) -> Curve | None:
        """One series (by Series.key) for drawing; None where it is unknown."""

    def alerts(self, firing_only: bool = False, limit: int = 500) -> Sequence[Alert]:
        """Latest state of each alert, newest first."""

    def incidents(self, limit: int = 100, since_ns: int = 0) -> Sequence[Incident]:
        """Newest first."""

    def incident(self, incident_id: str) -> Incident | None:
        """One incident, or None."""

    def reports(self, limit: int = 100, since_ns: int = 0) -> Sequence[Report]:
        """Newest first."""

    def report(self, report_id: str) -> Report | None:
        """One report by its own id or its incident's id (then the newest), or None."""

    def query(self, sql: str, max_rows: int = 10_000, timeout_s: float = 10.0) -> QueryResult:
        """Runs one SELECT of a person over the views `samples`, `series`, `alerts`, `incidents`, `reports`, `events`.

        Raises ValueError (message for the person) for anything but one SELECT, for SQL errors and for time-outs.
        """


@dataclass(frozen=True, slots=True)
class OutboxItem:
    """One body on its way. tries: attempts so far; next_ns: not before that; last_error: why the latest one failed."""

    id: str
    url: str
    body: str
    created_ns: int
    tries: int = 0
    next_ns: int = 0
    last_error: str = ""


class Outbox(Protocol):
    """Keeps webhook bodies until they are delivered, across restarts; safe to use from any thread."""

    def put(self, item: OutboxItem, /) -> None:
        """Keeps one item durably, in place of a waiting one of the same id."""

    def due(self, now_ns: int, limit: int = 50, /) -> Sequence[OutboxItem]:
        """Items whose next_ns has passed, oldest first."""

    def delivered(self, item_id: str, /) -> None:
        """Forgets an item."""

    def failed(self, item_id: str, next_ns: int, error: str, /) -> None:
        """Counts a failed attempt; the item is due again at next_ns."""

    def pending(self) -> int:
        """Number of items kept."""


class Live(Protocol):
    """The running daemon as the API sees it."""

    def steps(self) -> Mapping[tuple[str, str], Floats]:
        """Steps of inference servers, see Knowing.steps; at most some seconds old."""

    def status(self) -> Status:
        """The daemon now."""

    def latest(self) -> tuple[Frame, Band | None] | None:
        """Newest frame and the expected band of its series; None before the first."""

    def recent(self, start_ns: int, names: Sequence[str] | None = None) -> Window:
        """Samples still in memory (at least the last 10 minutes) from start_ns on."""


@runtime_checkable
class Almanac(Protocol):
    """Somebody who knows what each hour usually brings; the running daemon is one."""

    def season(self, key: str, /) -> Season | None:
        """The season of the series with this key, or None."""


class Knobs(Protocol):
    """Reads the present value of a setting of this host. Only kinds of a closed list; never a path from outside."""

    def read(self, kind: str, key: str, entity: str = "") -> str:
        """The value as the kernel prints it. Raises NoData where this host has no such knob, Broken when unreadable."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a chat model said. `text` is untrusted; tokens as the server counted them, 0 where it did not."""

    text: str
    model: str
    seconds: float
    prompt_tokens: int = 0
    answer_tokens: int = 0


class ChatModel(Protocol):
    """A language model behind an endpoint."""

    name: str
    endpoint: str

    def ask(self, system: str, user: str, schema: Mapping[str, Any], deadline_s: float) -> Answer:
        """One constrained answer. Raises ModelError when it is down, late, cut off or no JSON."""
