"""Everything the causes may look at: measured series, host events, facts. Read-only and free of I/O."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property

from etio.core.event import HostEvent, pid_of
from etio.core.facts import Facts
from etio.core.frame import NS
from etio.core.ports import Window
from etio.core.series import Labels
from rca.case import Case
from rca.evidence import Measure, measure
from rca.who import Census

BEFORE_NS = 30 * NS
"""Events this long before the onset still count as part of the incident: alerts need seconds to start."""


class Scene:
    """One case with everything known about it."""

    def __init__(self, case: Case, window: Window, events: Sequence[HostEvent], facts: Facts) -> None:
        self.case = case
        self.facts = facts
        self.window = window
        self.events = tuple(sorted(events, key=lambda e: e.t_ns))
        self.census = Census(facts, case.who_ns, case.end_ns)
        self._by_name: dict[str, list[Measure]] = defaultdict(list)
        for one in measure(window, case):
            self._by_name[one.series.name].append(one)

    @cached_property
    def whole(self) -> Census:
        """Who did it, over all the time since the onset: for what grows slowly."""
        return self.census if self.case.who_ns == self.case.onset_ns else Census(
            self.facts, self.case.onset_ns, self.case.end_ns)

    @property
    def cpus(self) -> int:
        """Cores of the host; 0 where unknown."""
        if self.facts.host.cpus:
            return self.facts.host.cpus
        count = self.value("cpu_count")
        return 0 if math.isnan(count) else int(count)

    def all(self) -> list[Measure]:
        """Every measured series."""
        return [one for group in self._by_name.values() for one in group]

    def measures(self, name: str, label: str = "", entity: str = "", fixed: Labels = ()) -> list[Measure]:
        """All series of that name for the entity; a series without that label speaks for every entity."""
        found = []
        for one in self._by_name.get(name, ()):
            own = one.series.label(label) if label else None
            if own not in (None, entity) and label:
                continue
            if all(one.series.label(k) == v for k, v in fixed):
                found.append(one)
        return found

    def value(self, name: str, label: str = "", entity: str = "", fixed: Labels = ()) -> float:
        """Highest value now among the matching series; NaN where there is none."""
        values = [m.now for m in self.measures(name, label, entity, fixed) if m.now == m.now]
        return max(values, default=float("nan"))

    def entities(self, label: str, names: Iterable[str]) -> list[str]:
        """Values of a label over the series with these names, and over the alerts of the incident; of groups also those
        whose limit a killed process met."""
        found: dict[str, None] = {}
        for alert in self.case.incident.alerts:
            found.update({v: None for k, v in alert.labels if k == label})
        if label == "cgroup":
            found.update({str(e.get("limited")): None for e in self.happened(("oom_kill",)) if e.get("limited")})
        for name in names:
            for one in self._by_name.get(name, ()):
                value = one.series.label(label)
                if value is not None:
                    found[value] = None
        return list(found)

    def happened(self, kinds: Iterable[str], label: str = "", entity: str = "") -> list[HostEvent]:
        """Events of these kinds that belong to the incident, oldest first; of the entity where one is given."""
        wanted, start = set(kinds), self.case.onset_ns - BEFORE_NS
        return [e for e in self.events
                if e.kind in wanted and start <= e.t_ns <= self.case.now_ns and self._concerns(e, label, entity)]

    def _concerns(self, event: HostEvent, label: str, entity: str) -> bool:
        if not label or f"{label}={entity}" in event.entity.split(","):
            return True
        named = event.get(label)
        if label != "cgroup":
            return named == entity
        known = self.census.process(pid_of(event.entity))
        told = str(named or "")  # a process that ends is in the root group already
        path = told if told not in ("", "/") else known.cgroup if known else ""
        return path in ("", "/") or path == entity or path.startswith(f"{entity}/")
