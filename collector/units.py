"""Units of systemd: which failed and why, and how often systemd started a service again by itself (NRestarts).

Reads:  systemd over D-Bus: ListUnitsByPatterns, and of services NRestarts, Result, ExecMainCode, ExecMainStatus
Emits:  units_*, unit_restarts{unit}; events unit_restarts, unit_failed, unit_recovered
Needs:  systemd as process 1, a D-Bus system bus; no privilege
Source: org.freedesktop.systemd1(5), systemd.service(5), systemd.exec(5)

A service that systemd starts again at once has no error for long: its Result is that of the last run only while it is
down. So one that was started again since the last look is looked at a few times more.
"""

import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from collector.cgroup_files import shown
from collector.dbus import Answer, Bus, Call, Refusal
from collector.table import NAN, Column, Table, emits
from etio.core.errors import Broken, NoData
from etio.core.event import Field, HostEvent
from etio.core.frame import NS, Reading
from etio.core.ports import CollectorSpec

FAILED = Column("units_failed", "1", "gauge", "units that are failed")
RESTARTING = Column("units_restarting", "1", "gauge", "services that wait to be started again")
RESTARTS = Column("units_restarts_per_second", "1/s", "counter", "services that systemd started again by itself, all")
OF_UNIT = Column("unit_restarts", "1", "gauge", "times that systemd has started it again by itself (NRestarts)",
                 ("unit",))
COLUMNS = (FAILED, RESTARTING, RESTARTS, OF_UNIT)
BOOTED = "run/systemd/system"
SOCKET = "run/dbus/system_bus_socket"
SYSTEMD, MANAGER = "org.freedesktop.systemd1", "org.freedesktop.systemd1.Manager"
PATH = "/org/freedesktop/systemd1"
ACTIVE = ("active", "reloading", "activating", "deactivating", "failed")
AGAIN, PAUSE_S = 4, 0.15
"""How often and in which distance one that was started again is looked at, to see how it ended."""
SOURCE = "systemd (D-Bus)"
_OBJECT = re.compile(r"/[A-Za-z0-9_/]{1,400}")
_EXITED, _KILLED, _DUMPED = 1, 2, 3
"""CLD_EXITED, CLD_KILLED, CLD_DUMPED of waitid(2): ExecMainCode."""
_ASKED_TO = (128 + signal.SIGINT, 128 + signal.SIGTERM)
"""Exit statuses by which programs with a handler of their own, all of Java among them, say that somebody ended them."""
_RESULTS: Mapping[str, str] = {
    "oom-kill": "a process of it was killed for want of memory",
    "watchdog": "it did not tell its watchdog in time that it is alive",
    "timeout": "it did not start or stop in time",
    "start-limit-hit": "it was started too often in a short time",
    "resources": "systemd could not set up what it needs",
    "protocol": "it did not report that it is ready",
    "exec-condition": "a condition of its was not met",
}


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit as it is listed; of a service also how often it was started again and how its last run ended.

    code, status: ExecMainCode and ExecMainStatus: 1 and the exit status, 2 (3: with a core) and the signal.
    """

    name: str
    active: str
    sub: str
    path: str = ""
    restarts: float = NAN
    result: str = ""
    code: int = 0
    status: int = 0

    @property
    def was_stopped(self) -> bool:
        """Whether it counts as failed only because of how it tells that somebody ended it."""
        return self.result == "exit-code" and self.code == _EXITED and self.status in _ASKED_TO

    @property
    def ended(self) -> str:
        """How its last run ended, in words; "" while it runs, and where nobody knows."""
        if self.result in ("", "success"):
            return ""
        return f"{self._how()} (Result={shown(self.result)[:40]})"

    def _how(self) -> str:
        if self.result in _RESULTS:
            return _RESULTS[self.result]
        if self.code == _EXITED:
            return f"it exited with status {self.status}"
        if self.code in (_KILLED, _DUMPED):
            core = " and dumped core" if self.code == _DUMPED else ""
            return f"it was killed by {_signal(self.status)}{core}"
        return "it failed"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def parse_list(answer: Answer) -> list[Unit]:
    """The units of an answer to ListUnitsByPatterns. Raises Broken for anything else."""
    if isinstance(answer, Refusal):
        raise Broken(f"systemd: {shown(answer.name)[:80]}: {shown(answer.text)[:120]}")
    rows = answer[0] if len(answer) == 1 else None
    if not isinstance(rows, list):
        raise Broken("systemd: no list of units")
    found = []
    for row in rows:
        if not isinstance(row, tuple) or len(row) != 10 or not all(isinstance(row[i], str) for i in (0, 3, 4, 6)):
            raise Broken("systemd: a unit in an unknown form")
        found.append(Unit(shown(row[0])[:200], row[3], row[4], row[6]))
    return found


def _value(answer: Answer) -> object:
    """The value of a property; None where there is none, as in an old systemd or for a unit that has gone."""
    return answer[0] if not isinstance(answer, Refusal) and len(answer) == 1 else None


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0


@dataclass(frozen=True, slots=True)
class Config:
    """services: most services that are asked for their restarts. units: most that get series and events of their own.
    seconds: so long systemd may take to answer."""

    services: int = 512
    units: int = 64
    seconds: float = 10.0

    def __post_init__(self) -> None:
        if self.services < 1 or self.units < 1 or not 0.1 <= self.seconds <= 30:
            raise ValueError("services and units must be at least 1, seconds lie between 0.1 and 30")


class Units:
    """Collector of systemd's units. The first reading only learns; `live` may be asked from any thread."""

    def __init__(self, config: Config, pause: Callable[[float], None] = time.sleep) -> None:
        self._config = config
        self._pause = pause
        self._table = Table()
        self._path = Path("/") / SOCKET
        self._bus: Bus | None = None
        self._restarts: dict[str, float] = {}
        self._failed: set[str] | None = None
        self._total = 0.0
        self._looked_ns = 0
        self.live = False

    def open(self, root: Path) -> None:
        """Raises NoData where systemd does not run, or there is no bus to ask it over."""
        if not (root / BOOTED).is_dir():
            raise NoData(f"{root / BOOTED}: systemd does not run here (restarts are counted from processes)")
        self._path = root / SOCKET
        self._bus = Bus(self._path, self._config.seconds)

    def collect(self, t_ns: int) -> Reading:
        """One look. Raises Broken when systemd does not answer."""
        try:
            units = self._look()
            events = list(self._changes(t_ns, units))
        except Broken:
            self.close()
            raise
        self._looked_ns, self.live = t_ns, True
        self._table.start()
        restarting = sum(unit.sub.startswith("auto-restart") for unit in units)
        self._table.put("all", lambda: [FAILED.series(), RESTARTING.series(), RESTARTS.series()],
                        [float(sum(unit.active == "failed" for unit in units)), float(restarting), self._total])
        started_again = sorted((u for u in units if u.restarts > 0), key=lambda unit: -unit.restarts)
        for unit in started_again[:self._config.units]:
            self._table.put(unit.name, lambda name=unit.name: [OF_UNIT.series(name)], [unit.restarts])  # type: ignore[misc]
        return self._table.reading(tuple(events[:self._config.units]))

    def close(self) -> None:
        """Hangs up; may be called twice."""
        self.live = False
        if self._bus is not None:
            self._bus.close()
            self._bus = None

    def _ask(self, calls: Sequence[Call]) -> list[Answer]:
        if self._bus is None:
            self._bus = Bus(self._path, self._config.seconds)
        return self._bus.call(calls)

    def _look(self) -> list[Unit]:
        """Services that are not down for good, with their restarts, and every unit that failed."""
        services, failed = self._ask([_listing(ACTIVE, ("*.service",)), _listing(("failed",), ())])
        listed = (*parse_list(failed), *parse_list(services))
        units = {unit.name: unit for unit in listed if _OBJECT.fullmatch(unit.path)}
        asked = [u for u in units.values() if u.name.endswith(".service") and u.sub != "exited"][:self._config.services]
        answers = self._ask([_get(unit, "NRestarts") for unit in asked])
        for unit, answer in zip(asked, answers, strict=True):
            count = _value(answer)
            units[unit.name] = replace(unit, restarts=float(count) if isinstance(count, int) else NAN)
        return list(units.values())

    def _changes(self, t_ns: int, units: list[Unit]) -> Iterator[HostEvent]:
        before, self._restarts = self._restarts, {u.name: u.restarts for u in units}
        grown = {u.name: u.restarts - before.get(u.name, 0.0) for u in units if u.restarts > before.get(u.name, 0.0)}
        failed = {unit.name for unit in units if unit.active == "failed"}
        old, self._failed = self._failed, failed
        if old is None:
            return
        self._total += sum(grown.values())
        seconds = (t_ns - self._looked_ns) / NS
        by_name = {unit.name: unit for unit in units}
        news = [by_name[name] for name in sorted(grown.keys() | (failed - old))][:self._config.units]
        ends = self._ends(news)
        for unit in news:
            more = _fields(ends[unit.name])
            if unit.name in grown:
                counts = (("restarts", grown[unit.name]), ("total", unit.restarts), ("seconds", round(seconds, 1)))
                yield HostEvent(t_ns, "unit_restarts", f"unit={_entity(unit.name)}", (*counts, *more), SOURCE)
            if unit.name in failed - old and not ends[unit.name].was_stopped:
                yield HostEvent(t_ns, "unit_failed", f"unit={_entity(unit.name)}", more, SOURCE)
        for name in sorted(old - failed):
            yield HostEvent(t_ns, "unit_recovered", f"unit={_entity(name)}", (("program", _entity(name)),), SOURCE)

    def _ends(self, units: list[Unit]) -> dict[str, Unit]:
        """How their last runs ended, looked at until it is known of all of them, but not for long."""
        known = {unit.name: unit for unit in units}
        for turn in range(AGAIN):
            silent = [u for u in known.values() if not u.ended and u.name.endswith(".service")]
            if not silent:
                break
            if turn:
                self._pause(PAUSE_S)
            answers = iter(self._ask([_get(u, name) for u in silent
                                      for name in ("Result", "ExecMainCode", "ExecMainStatus")]))
            for unit in silent:
                result, code, status = (_value(next(answers)) for _ in range(3))
                known[unit.name] = replace(unit, result=result if isinstance(result, str) else "", code=_whole(code),
                                           status=_whole(status))
        return known


def _listing(states: Sequence[str], patterns: Sequence[str]) -> Call:
    return Call(SYSTEMD, PATH, MANAGER, "ListUnitsByPatterns", (states, patterns))


def _get(unit: Unit, name: str) -> Call:
    return Call(SYSTEMD, unit.path, "org.freedesktop.DBus.Properties", "Get", (f"{SYSTEMD}.Service", name))


def _entity(name: str) -> str:
    return name.replace(",", "?").replace("=", "?")


def _fields(unit: Unit) -> tuple[tuple[str, Field], ...]:
    return (("program", _entity(unit.name)), ("unit", unit.name), ("ended", unit.ended),
            ("result", shown(unit.result)[:40]), ("status", unit.status), ("state", f"{unit.active}/{unit.sub}"[:60]))


COLLECTOR = CollectorSpec(
    name="units", config=Config, build=Units,
    reads="systemd over D-Bus: failed units; NRestarts and Result of services",
    emits=emits(COLUMNS), needs="systemd, D-Bus", source="org.freedesktop.systemd1(5)", period_s=15.0, slow=True,
    optional=True,
)
