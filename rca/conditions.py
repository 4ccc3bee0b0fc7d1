"""Conditions against a scene: does it hold, does it not, or was it not measured."""

import math

from etio.core.evidence import Evidence
from rca.evidence import Measure
from rca.scene import Scene
from rca.spec import Check, Condition, Happened, Outcome, Table
from rca.units import clean, clock, humanise
from rca.vocabulary import word

NOTICED = frozenset(("behaviour_suspect", "zombies_pile_up", "process_stopped", "crash_loop", "fds_exhausted",
                     "user_tasks_exhausted", "ports_exhausted", "group_frozen", "link_flapping"))
"""Events that tell of a state when it was noticed: when it began is not known, and what follows may be seen first."""


def test(condition: Condition, scene: Scene, table: Table, entity: str) -> Outcome:
    """The answer of one condition for one entity of a table."""
    if isinstance(condition, Check):
        return _check(condition, scene, table.label, entity)
    if isinstance(condition, Happened):
        return _happened(condition, scene, table.label, entity)
    return condition.look(scene, entity)


def _check(check: Check, scene: Scene, label: str, entity: str) -> Outcome:
    found = [m for m in scene.measures(check.series, label, entity, check.labels)
             if not math.isnan(_value(check, m)) and not any(pair in m.series.labels for pair in check.but)]
    group = word(check.series).group
    if not found:
        return Outcome(None, missing(check.series, scene), group, check.series)
    pick = max if check.op == ">=" else min
    best = pick(found, key=lambda m: _value(check, m))
    deviation = best.deviation if check.stat == "now" else (_value(check, best) - best.baseline) / best.spread
    evidence = series_evidence(best, _value(check, best))
    holds = None if check.compared and math.isnan(best.baseline) else _holds(check, best)
    return Outcome(holds, evidence, group, check.series, check.why, deviation)


def _value(check: Check, measure: Measure) -> float:
    value: float = getattr(measure, check.stat)
    return value


def _holds(check: Check, measure: Measure) -> bool:
    value, calm = _value(check, measure), measure.baseline
    if check.op == ">=":
        return value >= check.bound and not (check.factor and value < check.factor * calm)
    return value <= check.bound and not (check.factor and value > check.factor * calm)


def series_evidence(measure: Measure, value: float) -> Evidence:
    """The statement that a measured series makes; without an id until it is cited."""
    series, words = measure.series, word(measure.series.name)
    of = "" if series.entity == "host" else f" ({clean(', '.join(v for _, v in series.labels))})"
    calm = "" if math.isnan(measure.baseline) else f", {humanise(measure.baseline, series.unit)} before"
    return Evidence(
        "", "series", f"{words.words}{of}: {humanise(value, series.unit)}{calm}", series.entity, series.key,
        measure.window_ns, value, series.unit, measure.baseline, float("nan"), measure.onset_ns, measure.coverage,
        words.source)


def missing(name: str, scene: Scene) -> Evidence:
    """The statement that a series was not there."""
    reason = f"{word(name).words}: not collected"
    return Evidence("", "missing", reason, series_key=name, window_ns=(scene.case.onset_ns, scene.case.end_ns),
                    coverage=0.0, source=word(name).source)


def _happened(condition: Happened, scene: Scene, label: str, entity: str) -> Outcome:
    events = scene.happened(condition.kinds, label, entity)
    name = condition.kinds[0]
    if not events:
        none = Evidence("", "event", f"no {name.replace('_', ' ')} was reported", coverage=1.0, source="host events")
        return Outcome(False, none, "events", name, condition.why)
    first = events[0]
    fields = ", ".join(f"{k.replace('_', ' ')} {_field(k, v)}" for k, v in first.fields[:4])
    times = f", {len(events)} times" if len(events) > 1 else ""
    told = ", ".join(filter(None, (clean(first.entity), fields)))
    claim = f"{first.kind.replace('_', ' ')} at {clock(first.t_ns)} ({told}){times}"
    evidence = Evidence("", "event", claim, first.entity, "", (first.t_ns, events[-1].t_ns), float(len(events)), "1",
                        float("nan"), float("nan"), 0 if first.kind in NOTICED else first.t_ns, 1.0,
                        first.source or "host events")
    return Outcome(True, evidence, "events", name, condition.why)


def _field(name: str, value: str | int | float) -> str:
    if isinstance(value, str):
        return clean(value, 40)
    return humanise(float(value), "bytes") if name.endswith("_bytes") else f"{value:g}"
