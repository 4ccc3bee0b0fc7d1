"""One cause against one scene: it holds for an entity, it is ruled out, or it cannot be judged."""

import math

from etio.core.series import Series
from rca.conditions import test
from rca.scene import Scene
from rca.spec import AnyOf, CauseSpec, Check, Draft, Outcome, Rejected, Shown, Table, Unjudged

Judgement = Draft | Rejected | Unjudged


def judge(spec: CauseSpec, scene: Scene) -> list[Judgement]:
    """Every entity for which the cause holds; else one Rejected or Unjudged, the nearest to holding."""
    found: list[Judgement] = []
    for table in spec.tables:
        found += [_judge_entity(spec, table, scene, entity) for entity in _entities(table, scene)]
    drafts: list[Judgement] = [f for f in found if isinstance(f, Draft)]
    if drafts:
        return drafts
    unjudged = [f for f in found if isinstance(f, Unjudged)]
    rejected = sorted((f for f in found if isinstance(f, Rejected)), key=_nearness, reverse=True)
    return [*rejected[:1]] or [*unjudged[:1]]


def _nearness(rejected: Rejected) -> tuple[int, float, bool]:
    """How many needs held, then the worst value, then real devices before those that are made of others."""
    evidence = rejected.outcome.evidence
    made = evidence.entity.partition("device=")[2].startswith(("loop", "dm-", "zram", "md"))
    return rejected.near, 0.0 if math.isnan(evidence.value) else evidence.value, not made


def _entities(table: Table, scene: Scene) -> list[str]:
    if not table.label:
        return [""]
    names = [c.series for group in table.needs for c in group if isinstance(c, Check)]
    return scene.entities(table.label, names)


def _judge_entity(spec: CauseSpec, table: Table, scene: Scene, entity: str) -> Judgement:
    supports: list[Outcome] = []
    for near, group in enumerate(table.needs):
        outcomes = [test(c, scene, table, entity) for c in group]
        held = [o for o in outcomes if o.holds]
        if not held:
            return _failed(spec, group, outcomes, near)
        supports += held
    for condition in table.refutes:
        outcome = test(condition, scene, table, entity)
        if outcome.holds:
            return Rejected(spec, outcome, outcome.why or outcome.evidence.claim, len(table.needs))
    supports += [o for o in (test(c, scene, table, entity) for c in table.supports) if o.holds]
    if not _linked(spec, scene, table, entity) and _habitual(supports):
        return Rejected(spec, supports[0], f"{supports[0].evidence.claim}: no more than in the calm time", 0)
    doubts = tuple(o for o in (test(c, scene, table, entity) for c in table.doubts) if o.holds)
    blame = spec.blame(scene, entity) if spec.blame else None
    return Draft(spec, table, entity, _unique(supports), doubts, blame)


def _failed(spec: CauseSpec, group: AnyOf, outcomes: list[Outcome], near: int) -> Judgement:
    measured = [o for o in outcomes if o.holds is False]
    if not measured:
        return Unjudged(spec, tuple(outcomes))
    best = next((o for o in measured if o.evidence.kind == "series"), measured[0])
    return Rejected(spec, best, best.evidence.claim, near)


def _linked(spec: CauseSpec, scene: Scene, table: Table, entity: str) -> bool:
    return any(link_of(spec, table.label, entity, alert.name, dict(alert.labels)) >= 2
               for alert in scene.case.incident.alerts)


def _habitual(supports: list[Outcome]) -> bool:
    """Whether all that is measured against a baseline is as it always was."""
    known = [o.deviation for o in supports if not math.isnan(o.deviation)]
    return bool(known) and all(abs(d) <= 4.0 for d in known)


def _unique(outcomes: list[Outcome]) -> tuple[Outcome, ...]:
    seen: dict[tuple[str, str], Outcome] = {}
    for one in outcomes:
        seen.setdefault((one.evidence.series_key or one.name, one.evidence.kind), one)
    return tuple(seen.values())


def link_of(spec: CauseSpec, label: str, entity: str, alert: str, labels: dict[str, str]) -> int:
    """How an alert is tied to a cause and entity: 3 names both, 2 names the cause, 0 not at all (or another entity). A
    kill in a control group also speaks of those above it: it may be their limit that was met."""
    if alert not in spec.alerts:
        return 0
    if not label or label not in labels:
        return 2
    above = alert == "OomKill" and labels[label].startswith(f"{entity.rstrip('/')}/")
    return 3 if labels[label] == entity or above else 0


def series_names(spec: CauseSpec) -> frozenset[str]:
    """Every series that the tables of a cause mention."""
    found = set()
    for table in spec.tables:
        conditions = [c for group in table.needs for c in group] + [*table.supports, *table.refutes, *table.doubts]
        found |= {c.series for c in conditions if isinstance(c, Check)}
        found |= {name for c in conditions if isinstance(c, Shown) for name in c.reads}
    return frozenset(found)


def subsystems(spec: CauseSpec) -> frozenset[str]:
    """Subsystems its needs speak of: cpu, memory, disk ..."""
    return frozenset(Series(c.series, "").subsystem
                     for table in spec.tables for group in table.needs for c in group if isinstance(c, Check))
