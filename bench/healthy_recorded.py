"""Recorded frames and events of a host through a fresh engine with the default configuration: which incidents, why."""

import shutil
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from etio.core.errors import Broken, StoreError
from etio.core.event import Event, HostEvent, SeasonsReady
from etio.core.frame import NS, Frame
from etio.core.policy import model_of
from etio.core.words import amount
from etio.daemon.config import load
from etio.daemon.replay import Transition, engine_of, recorded, replay
from etio.daemon.season_record import FOLDER

CLASSES = ("fact", "forecast", "statistical")
"""An incident is of the first class that any of its alerts belongs to."""
FACTS = frozenset({"event", "hard_rules"})
"""Detectors that only repeat what a counter of the kernel, a driver or a server says."""
SERVER_FACTS = frozenset({"KvCacheFull", "ServingDown"})
GAP_S = 60.0
"""A longer stretch without frames counts as not observed."""
NEAR_NS = 30 * NS
LOADS = {"quiet": 0.2, "busy": 0.8, "full": np.inf}
"""How loaded the host was, by the busy share of its cores over a minute: below so much."""
MINUTE = 60
TRIES = 3
SHOWN = ("cpu_busy_ratio", "cpu_mode_ratio{mode=\"nice\"}", "cpu_runnable_per_core", "pressure_cpu_some_ratio",
         "pressure_memory_some_ratio", "pressure_io_some_ratio", "memory_available_ratio")
"""What a person wants to know of the moment when an incident opened."""


@dataclass(frozen=True, slots=True)
class Said:
    """An alert that fired. at: time of day, UTC."""

    at: str
    name: str
    severity: str
    detector: str
    entity: str
    summary: str
    score: float

    @property
    def kind(self) -> str:
        """Its class, one of CLASSES."""
        if model_of(self.name) != "behaviour" and (self.detector in FACTS or self.name in SERVER_FACTS):
            return "fact"
        return "forecast" if self.detector == "trends" else "statistical"


@dataclass(frozen=True, slots=True)
class Judged:
    """What a person found out about the incident that opened at about `t_ns`."""

    t_ns: int
    true: bool
    why: str


@dataclass(slots=True)
class Opened:
    """One incident. host: a few numbers of the moment it opened; load: of LOADS, in the minute before; seconds: until
    it was over (or the recording was)."""

    id: str
    t_ns: int
    host: str
    load: str
    alerts: list[Said] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def kind(self) -> str:
        """Its class: what only joins an incident as evidence decides nothing."""
        kinds = {a.kind for a in self.alerts if a.severity != "info"}
        return next(k for k in (*CLASSES, "statistical") if k in kinds or k == "statistical")

    def when(self) -> str:
        """Its opening, UTC."""
        return _clock(self.t_ns, "%Y-%m-%d %H:%M:%S")

    def verdict(self, known: tuple[Judged, ...]) -> str:
        """ "true", "false" or "" where nobody has said, with the reason. """
        one = self._judged(known)
        return "" if one is None else f"judged {'true' if one.true else 'false'}: {one.why}"

    def _judged(self, known: tuple[Judged, ...]) -> Judged | None:
        near = [j for j in known if abs(j.t_ns - self.t_ns) <= NEAR_NS]
        return min(near, key=lambda j: abs(j.t_ns - self.t_ns), default=None)

    def is_false(self, known: tuple[Judged, ...]) -> bool:
        """Whether it counts as false: as a person said, else unless it is a fact."""
        one = self._judged(known)
        return self.kind != "fact" if one is None else not one.true


@dataclass(slots=True)
class Found:
    """What a replay gave. seconds: observed, without gaps; minutes: of them at each of LOADS."""

    frames: int = 0
    events: int = 0
    series: int = 0
    seconds: float = 0.0
    minutes: dict[str, int] = field(default_factory=dict)
    incidents: list[Opened] = field(default_factory=list)

    def plain(self, known: tuple[Judged, ...]) -> dict[str, Any]:
        """The stable JSON form."""
        days = max(self.seconds, 1.0) / 86_400
        false = [one for one in self.incidents if one.is_false(known)]
        counts = Counter(one.kind for one in self.incidents)
        return {
            "hours": round(self.seconds / 3600, 3), "frames": self.frames, "series": self.series,
            "hours_by_load": {name: round(self.minutes.get(name, 0) / 60, 3) for name in LOADS},
            "incidents": len(self.incidents), "incidents_per_day": round(len(self.incidents) / days, 3),
            "by_load": {name: self._at_load(name, known) for name in LOADS},
            "by_class": {kind: {"incidents": counts[kind], "per_day": round(counts[kind] / days, 3)}
                         for kind in CLASSES},
            "judged_true": sum("judged true" in one.verdict(known) for one in self.incidents),
            "false": len(false), "false_per_day": round(len(false) / days, 3),
            "by_alert": dict(Counter(one.alerts[0].name for one in self.incidents)),
            "list": [{"opened": one.when(), "id": one.id, "class": one.kind, "load": one.load,
                      "seconds": round(one.seconds, 1), "verdict": one.verdict(known), "host": one.host,
                      "alerts": [{name: getattr(a, name) for name in a.__slots__} for a in one.alerts]}
                     for one in self.incidents],
        }


    def _at_load(self, load: str, known: tuple[Judged, ...]) -> dict[str, float | int]:
        """What came while the host was so loaded; rates are per day of such time."""
        here = [one for one in self.incidents if one.load == load]
        hours = self.minutes.get(load, 0) / 60
        false = sum(one.is_false(known) for one in here)
        return {"hours": round(hours, 3), "incidents": len(here), "false": false,
                "false_per_day": round(24 * false / hours, 3) if hours else 0.0}


def judged_of(path: Path) -> tuple[Judged, ...]:
    """Lines of TIME true|false REASON; empty lines and those with # in front are skipped. Raises Broken."""
    found = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            time, verdict, *why = line.split(maxsplit=2)
            t_ns = int(datetime.fromisoformat(time).replace(tzinfo=UTC).timestamp()) * NS
            found.append(Judged(t_ns, {"true": True, "false": False}[verdict], " ".join(why)))
        except (ValueError, KeyError) as error:
            raise Broken(f"{path}:{number}: expected TIME true|false REASON") from error
    return tuple(found)


def copied(store: Path, scratch: Path) -> Path:
    """Copies the day files: a daemon may have them open. Files first, then their logs, once more where they changed
    meanwhile. Raises Broken where there are none or they do not come to rest."""
    days = store / "days" if (store / "days").is_dir() else store
    files = sorted(days.glob("d*.duckdb"))
    if not files:
        raise Broken(f"{store}: no day files")
    for file in files:
        for _ in range(TRIES):
            before = file.stat().st_mtime_ns
            shutil.copyfile(file, scratch / file.name)
            log = file.with_name(file.name + ".wal")
            if log.exists():
                shutil.copyfile(log, scratch / log.name)
            if file.stat().st_mtime_ns == before:
                break
        else:
            raise Broken(f"{file}: changes all the time")
    if (days / FOLDER).is_dir():
        shutil.copytree(days / FOLDER, scratch / FOLDER)
    return scratch


def observe(folder: Path, since_ns: int, until_ns: int) -> Found:
    """Everything between the two moments through a fresh engine. Raises Broken or StoreError."""
    found, open_now, tape = Found(), dict[str, Opened](), _Tape(since_ns, until_ns)
    try:
        for one in replay(engine_of(load(None)), tape.items(folder)):
            _take(one, tape, found, open_now)
    except StoreError as error:
        raise Broken(f"{folder}: {error}") from error
    for opened in open_now.values():
        opened.seconds = max(opened.seconds, (tape.last_ns - opened.t_ns) / NS)
    found.frames, found.events, found.series, found.seconds = tape.frames, tape.events, tape.series, tape.seconds
    found.minutes = dict(tape.minutes)
    return found


def _take(one: Transition, tape: "_Tape", found: Found, open_now: dict[str, Opened]) -> None:
    number = one.incident.id
    if one.incident.resolved_ns:
        if (over := open_now.pop(number, None)) is not None:
            over.seconds = (one.t_ns - over.t_ns) / NS
        return
    if one.alert.state != "firing":
        return
    if number not in open_now:
        open_now[number] = Opened(number, one.t_ns, tape.host(), tape.load())
        found.incidents.append(open_now[number])
    a = one.alert
    value = "" if np.isnan(a.value) or "usually" in a.summary else f" [{a.series_key or a.unit}: " \
                                                                    f"{amount(a.value, a.unit)}]"
    open_now[number].alerts.append(Said(_clock(one.t_ns, "%H:%M:%S"), a.name, a.severity, a.detector, a.entity,
                                        a.summary + value, round(a.score, 2)))


class _Tape:
    """Frames and events on their way into the engine, counted."""

    def __init__(self, since_ns: int, until_ns: int) -> None:
        self._span = (since_ns, until_ns)
        self.frames = self.events = self.series = self.last_ns = 0
        self.seconds = 0.0
        self.minutes: Counter[str] = Counter()
        self._busy: list[float] = []
        self._lately: deque[float] = deque(maxlen=MINUTE)
        self._at = -1
        self._frame: Frame | None = None

    def items(self, folder: Path) -> Iterator[Frame | Event]:
        """Those of the span."""
        for item in recorded(folder):
            if isinstance(item, SeasonsReady) and item.t_ns <= self._span[1]:
                yield item
            elif isinstance(item, (Frame, HostEvent)) and self._span[0] <= item.t_ns <= self._span[1]:
                if isinstance(item, Frame):
                    self._count(item)
                else:
                    self.events += 1
                yield item

    def _count(self, frame: Frame) -> None:
        gap = (frame.t_ns - self.last_ns) / NS
        self.seconds += gap if self.last_ns and 0 < gap <= GAP_S else 0.0
        self.frames, self.series, self.last_ns, self._frame = self.frames + 1, len(frame.series), frame.t_ns, frame
        self._load(frame)

    def _load(self, frame: Frame) -> None:
        """Adds the busy share of one second; a minute of them is quiet, busy or full."""
        if self._at < 0:
            self._at = next((i for i, s in enumerate(frame.series) if s.key == SHOWN[0]), -1)
        if self._at < 0 or np.isnan(frame.values[self._at]):
            return
        self._busy.append(float(frame.values[self._at]))
        self._lately.append(self._busy[-1])
        if len(self._busy) == MINUTE:
            self.minutes[_loaded(self._busy)] += 1
            self._busy.clear()

    def load(self) -> str:
        """How loaded the host was in the minute before, of LOADS."""
        return _loaded(self._lately or (0.0,))

    def host(self) -> str:
        """A few numbers of the newest frame, for a person to judge by."""
        if self._frame is None:
            return ""
        by_key = {s.key: (s, v) for s, v in zip(self._frame.series, self._frame.values.tolist(), strict=True)}
        told = [by_key[key] for key in SHOWN if key in by_key and not np.isnan(by_key[key][1])]
        return ", ".join(f"{s.key} {amount(v, s.unit)}" for s, v in told)


def _loaded(busy: Sequence[float]) -> str:
    return next(name for name, below in LOADS.items() if np.mean(busy) < below)


def _clock(t_ns: int, form: str) -> str:
    return datetime.fromtimestamp(t_ns // NS, UTC).strftime(form)
