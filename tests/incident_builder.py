"""Builds the values of an incident (window, facts, alerts) from a compact description, for tests of the agent.

A description is a JSON object; see tests/incidents/*.json. Times are seconds relative to the onset of the fault:

- ``series``: key -> number, [calm, fault], or {"calm", "fault", "ramp", "lag", "noise", "trend"}; null = NaN.
- ``alerts``: name, labels, severity, series, lag (seconds from onset to the begin of its condition).
- ``events``: at, kind, entity, fields, source.
- ``processes``: pid, ppid, comm, cgroup, unit, from, to, count, threads, cpu (cores), children_cpu (cores of children
  that ended), run_delay, rss, grow, read ...
- ``cgroups``: path and figures as in etio.core.facts.Cgroup.
- ``extra``: pairs as in Facts.extra.
- ``actors``: kind, name, pid, ppid, count, amount, unit, device.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from etio.core.alert import Alert, Incident, fingerprint
from etio.core.errors import NoData
from etio.core.event import HostEvent
from etio.core.facts import Actor, ActorTable, Cgroup, CgroupTable, Facts, HostInfo, Process, ProcessTable
from etio.core.frame import NS
from etio.core.ports import Window
from etio.core.series import Labels, Series, labels

ONSET_NS = 1_763_700_000 * NS
BOOT_NS = ONSET_NS - 86_400 * NS
INCIDENTS = Path(__file__).parent / "incidents"
_PAIR = re.compile(r'([a-z_]+)="?([^",}]*)"?')
_UNITS = (("_bytes_per_second", "bytes/s"), ("_seconds_per_second", "seconds/s"), ("_per_second", "1/s"),
          ("_ratio", "ratio"), ("_bytes", "bytes"), ("_seconds", "seconds"), ("_celsius", "celsius"),
          ("_cores", "cores"), ("_watts", "watts"), ("_hertz", "hertz"))


class MemoryHistory:
    """A History over one window in memory."""

    def __init__(self, window: Window, events: Sequence[HostEvent] = ()) -> None:
        self._window, self._events = window, tuple(events)

    def window(self, start_ns: int, end_ns: int, names: Sequence[str] | None = None) -> Window:
        rows = (self._window.t_ns >= start_ns) & (self._window.t_ns <= end_ns)
        kept = [i for i, s in enumerate(self._window.series) if names is None or s.name in names]
        return Window(tuple(self._window.series[i] for i in kept), self._window.t_ns[rows],
                      self._window.values[rows][:, kept])

    def events(self, start_ns: int, end_ns: int) -> Sequence[HostEvent]:
        return [e for e in self._events if start_ns <= e.t_ns <= end_ns]


class NoKnobs:
    """A host whose settings cannot be read."""

    def read(self, kind: str, key: str, entity: str = "") -> str:
        raise NoData(f"{kind} {key}: none on this host")


def series_of(key: str) -> Series:
    """A Series from ``name{label="value"}``; quotes may be left out."""
    name, _, rest = key.partition("{")
    unit = next((u for suffix, u in _UNITS if name.endswith(suffix)), "1")
    return Series(name, unit, "gauge", labels(**dict(_PAIR.findall(rest))))


def load(name: str) -> dict[str, Any]:
    """One description from tests/incidents."""
    found: dict[str, Any] = json.loads((INCIDENTS / f"{name}.json").read_text())
    return found


def window_of(spec: Mapping[str, Any]) -> Window:
    """The samples of a description, one a second."""
    calm, fault = int(spec.get("calm_s", 600)), int(spec.get("fault_s", 12))
    at = np.arange(-calm, fault + 1)
    rng = np.random.default_rng(7)
    keys = spec.get("series", {})
    columns = [_column(value, at, rng) for value in keys.values()]
    values = np.stack(columns, axis=1) if columns else np.empty((len(at), 0))
    return Window(tuple(series_of(k) for k in keys), ONSET_NS + at * NS, values)


def _column(value: Any, at: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if not isinstance(value, dict):
        pair = value if isinstance(value, list) else [value, value]
        value = {"calm": pair[0], "fault": pair[1]}
    calm = math.nan if value["calm"] is None else value["calm"]
    fault = math.nan if value["fault"] is None else value["fault"]
    since = at - value.get("lag", 0)
    column = np.where(since < 0, calm, fault).astype(float)
    if value.get("ramp"):
        column = calm + (fault - calm) * np.clip(since / max(at[-1], 1), 0, 1)
    if value.get("trend"):
        column = calm + (fault - calm) * (at - at[0]) / (at[-1] - at[0])
    noisy = np.maximum(column * (1 + value.get("noise", 0.03) * rng.standard_normal(len(at))), 0.0)
    return np.minimum(noisy, np.maximum(1.0, column)) if np.nanmax(column, initial=0.0) <= 1.0 else noisy


def alerts_of(spec: Mapping[str, Any], now_ns: int) -> tuple[Alert, ...]:
    """The alerts of a description, all firing."""
    made = []
    for one in spec.get("alerts", []):
        pairs: Labels = labels(**one.get("labels", {}))
        begin = ONSET_NS + int(one.get("lag", 1) * NS)
        made.append(Alert(
            fingerprint(one["name"], pairs), one["name"], one.get("severity", "warning"), "firing", pairs,
            one.get("summary", one["name"]), series_of(one["series"]).key if one.get("series") else "",
            one.get("value", math.nan), "", 1.5, "rules", begin, min(begin + 3 * NS, now_ns), 0, "2025-11-21-0001"))
    return tuple(made)


def incident_of(spec: Mapping[str, Any], now_ns: int) -> Incident:
    """The incident of a description."""
    alerts = alerts_of(spec, now_ns)
    return Incident("2025-11-21-0001", min((a.firing_ns for a in alerts), default=ONSET_NS), alerts)


def events_of(spec: Mapping[str, Any]) -> tuple[HostEvent, ...]:
    """The host events of a description."""
    return tuple(HostEvent(ONSET_NS + int(e.get("at", 1) * NS), e["kind"], e.get("entity", "host"),
                           tuple(e.get("fields", {}).items()), e.get("source", "eBPF")) for e in spec.get("events", []))


def facts_of(spec: Mapping[str, Any]) -> Facts:
    """The facts of a description: process tables at the given moments (default two before and two after the onset)."""
    fault = spec.get("fault_s", 12)
    moments = spec.get("tables", [-30, -1, min(3, fault), fault])
    tables = tuple(ProcessTable(ONSET_NS + int(t * NS), tuple(p for one in spec.get("processes", [])
                                                              for p in _processes(one, t))) for t in moments)
    groups = tuple(Cgroup(**g) for g in spec.get("cgroups", []))
    actors = tuple(Actor(**a) for a in spec.get("actors", []))
    host = HostInfo("testhost", "6.18", cpus=spec.get("cpus", 2), memory_bytes=8 << 30, boot_ns=BOOT_NS)
    return Facts(
        host, spec.get("tier", "T1"), tables if spec.get("processes") else (),
        (CgroupTable(ONSET_NS + fault * NS, groups),) if groups else (),
        (ActorTable(ONSET_NS - 2 * NS, ONSET_NS + fault * NS, actors),) if actors else (),
        tuple(spec.get("missing", ())), tuple(spec.get("own_pids", ())), cpu_percent=0.4, pss_mb=131.0,
        extra=tuple((k, v) for k, v in spec.get("extra", ())))


def _processes(one: Mapping[str, Any], t: float) -> list[Process]:
    """One line of the description at moment t: cumulative figures grow at their rates from the onset (or its start)."""
    start, end = one.get("from", -80_000), one.get("to", math.inf)
    if not start <= t <= end:
        return []
    active = max(t - max(start, one.get("active", 0)), 0.0)
    lived = max(t - start, 0.0)
    return [Process(
        one["pid"] + i, one.get("ppid", 1), one["comm"], one.get("cgroup", "/user.slice"), one.get("unit", ""), 1000,
        one.get("state", "R"), 86_400 + start, one.get("threads", 1), one.get("cpu", 0.0) * active,
        one.get("run_delay", 0.0) * active, one.get("rss", 20e6) + one.get("grow", 0.0) * min(lived, 1e4),
        one.get("read", 0.0) * active, one.get("write", 0.0) * active, one.get("major", 0.0) * active,
        one.get("children_cpu", 0.0) * active)
        for i in range(one.get("count", 1))]
