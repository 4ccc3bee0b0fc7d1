"""The timeline of an incident and what changed before it."""

import math
from collections.abc import Sequence

from etio.core.event import HostEvent
from etio.core.evidence import Evidence
from etio.core.frame import NS
from etio.core.report import Moment
from rca.culprits import describe
from rca.scene import Scene
from rca.units import clean, humanise
from rca.vocabulary import word
from rca.who import KERNEL_THREADS, Group

MAX_CHANGES = 6
MAX_EVENTS = 12
MAX_SHIFTS = 4
SHIFT = "level_shift"
TOLD = frozenset(("before", "after", "what", "xid"))
"""Fields of an event that say what changed."""
QUALITY = frozenset(("collector_failed", "collector_nodata"))
"""Events about etio itself: they belong to the quality of the data, not to what happened to the host."""
IDLE = 0.01
"""Cores below which a process that began some time ago is not worth a line."""
JUST_NS = 30 * NS
ONSET_NS = 2 * NS
"""A process that started this long after the first condition still belongs to what came before the alert."""


def timeline(scene: Scene, evidence: Sequence[Evidence]) -> tuple[Moment, ...]:
    """Alerts, events and the onsets of cited evidence, oldest first, ending with the report."""
    case = scene.case
    moments = [Moment(e.onset_ns, f"{e.id} {'is new' if math.isnan(e.baseline) else 'leaves its usual range'}", (e.id,))
               for e in evidence if e.onset_ns and e.kind == "series"]
    for alert in case.incident.alerts:
        where = "" if alert.entity == "host" else f" ({clean(alert.entity)})"
        moments.append(Moment(alert.pending_ns, f"condition of {alert.name}{where} begins"))
        if alert.firing_ns:
            moments.append(Moment(alert.firing_ns, f"alert {alert.name}{where} fires"))
        if alert.resolved_ns:
            moments.append(Moment(alert.resolved_ns, f"alert {alert.name}{where} resolved"))
    start = case.onset_ns - int(case.settings.lead_s * NS)
    events = [e for e in scene.events if start <= e.t_ns <= case.now_ns and e.kind not in QUALITY | {SHIFT}]
    moments += [_event(e) for e in events[-MAX_EVENTS:]]
    moments.append(Moment(case.now_ns, "this report"))
    return tuple(sorted(moments, key=lambda m: m.t_ns))


def changes(scene: Scene) -> tuple[Moment, ...]:
    """New processes and host events shortly before the onset, oldest first."""
    case = scene.case
    start, end = case.onset_ns - int(case.settings.changes_s * NS), case.onset_ns + ONSET_NS
    before = [e for e in scene.events if start <= e.t_ns and _earliest_ns(e) < case.onset_ns - NS
              and e.kind not in QUALITY]
    found = [_event(e) for e in before if e.kind != SHIFT]
    shifts = [_shift(e) for e in before if e.kind == SHIFT]
    started = [m for g in _notable(scene) if (m := _started(g, scene, start, end)) is not None]
    return tuple(sorted([*found[-MAX_CHANGES:], *shifts[-MAX_SHIFTS:], *started[:MAX_CHANGES]], key=lambda m: m.t_ns))


def failures(scene: Scene) -> tuple[str, ...]:
    """Collectors that failed before or during the incident, one line each."""
    failed = {e.entity.removeprefix("collector="): clean(str(e.get("reason") or "no reason told"))
              for e in scene.events if e.kind == "collector_failed"}
    return tuple(f"collector {clean(name, 40)} failed: {reason}" for name, reason in failed.items())


def _event(event: HostEvent) -> Moment:
    if event.kind == "culprit_ended":
        who = f"{clean(str(event.get('comm') or ''), 40)} ({clean(event.entity, 20).replace('=', ' ')})"
        return Moment(event.t_ns, f"{who.strip()}, which a report had named, ended")
    told = [f"{name} {clean(str(value), 60)}" for name, value in event.fields if name in TOLD]
    if seconds := (event.t_ns - _earliest_ns(event)) / NS:
        told.append(f"at some time in the {humanise(seconds, 'seconds')} before")
    return Moment(event.t_ns, f"{event.kind.replace('_', ' ')} ({'; '.join([clean(event.entity), *told])})")


def _earliest_ns(event: HostEvent) -> int:
    """When it may have happened: what is looked for now and then was only not there at the look before."""
    within = event.get("within_s")
    return event.t_ns - int(within * NS) if isinstance(within, (int, float)) else event.t_ns


def _shift(event: HostEvent) -> Moment:
    """A lasting shift of a level, which the detectors have verified by size and length."""
    name, _, rest = str(event.get("what") or "").partition("{")
    of = f" ({clean(rest.rstrip('}'), 60)})" if rest else ""
    unit = str(event.get("unit") or "")
    levels = [humanise(float(v), unit) if isinstance(v := event.get(k), (int, float)) else "unknown"
              for k in ("before", "after")]
    return Moment(event.t_ns, f"{word(name).words}{of}: level shifted from {levels[0]} to {levels[1]}")


def _notable(scene: Scene) -> list[Group]:
    """Families worth telling, those that use most first."""
    groups = [g for g in scene.census.groups
              if not g.own and g.ppid not in KERNEL_THREADS and any(not m.gone for m in g.members)]

    def weight(group: Group) -> list[float]:
        return [0.0 if math.isnan(v) else v for v in (group.total("cpu_cores"), group.total("rss_bytes"))]

    return sorted(groups, key=weight, reverse=True)[:40]


def _started(group: Group, scene: Scene, start_ns: int, end_ns: int) -> Moment | None:
    """The start of a family as a change; None where it is older, newer, or of unknown age."""
    boot = scene.facts.host.boot_ns
    first = min((m.process.start_s for m in group.members if math.isfinite(m.process.start_s)), default=math.nan)
    if not boot or math.isnan(first):
        return None
    t_ns = boot + int(first * NS)
    idle = group.total("cpu_cores") < IDLE and t_ns < scene.case.onset_ns - JUST_NS
    return Moment(t_ns, f"{describe(group)} started") if start_ns <= t_ns <= end_ns and not idle else None
