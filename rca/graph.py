"""Which cause explains which alert and which other cause; from that, roots are told from effects, and ranked.

What explains a critical alert comes before what explains none: it is what somebody is paged for. Then three signs order
the roots, as in verified propagation paths (structure, deviation, time): an alert names the cause and its entity; the
evidence is far from its baseline and comes from several sources; it began early.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from etio.core.alert import Alert
from etio.core.frame import NS
from etio.core.report import Verdict
from rca.apart import apart, unrelated
from rca.judge import link_of, subsystems
from rca.scene import Scene
from rca.spec import CauseSpec, Draft

SLACK_NS = 5 * NS
"""Two onsets closer than this have no order: the series are sampled once a second and smoothed by their medians."""
GENERIC = frozenset(("SeriesAnomaly", "SubsystemAnomaly", "PeerDeviation"))
RIVAL = 6.0
"""Roots whose scores differ by less are equally good explanations."""
_FAMILIES = {
    "vm": "memory", "reclaim": "memory", "swap": "memory", "sched": "cpu", "process": "cpu",
    "block": "disk", "filesystem": "disk", "tcp": "network", "net": "network", "udp": "network",
    "conntrack": "network", "neighbour": "network", "io": "disk",
    "dirty": "disk", "compaction": "memory", "kswapd": "memory", "page": "memory",
}


@dataclass(frozen=True, slots=True)
class Ranking:
    """roots: best first. effects: (effect, the root it follows from). also: other entities with the same cause."""

    roots: tuple[Draft, ...]
    effects: tuple[tuple[Draft, Draft], ...]
    also: tuple[Draft, ...]
    rivals: bool = False


def rank(drafts: Sequence[Draft], specs: Sequence[CauseSpec], scene: Scene) -> Ranking:
    """Orders everything that holds."""
    linked = sorted((_link(d, specs, scene) for d in drafts), key=_score_key)
    parents = {id(d): [p for p in linked if _explains(p, d) and not apart(p, d, scene)] for d in linked}
    best: dict[str, Draft] = {}
    # what an alert names and nothing else explains comes first: another entity may well be an effect
    for draft in sorted(linked, key=lambda d: bool(parents[id(d)]) or d.link < 2):
        best.setdefault(draft.spec.id, draft)
    also = tuple(d for d in linked if best[d.spec.id] is not d and d.link >= 2)
    effects = [(d, best[parents[id(d)][0].spec.id]) for d in best.values() if parents[id(d)]]
    held_down = {e.spec.id for e, _ in effects}
    critical = {a.fingerprint for a in scene.case.incident.alerts if a.severity == "critical"}
    grave = {d.spec.id for d in best.values() if d.explained & critical}
    grave |= {cause.spec.id for effect, cause in effects if effect.spec.id in grave}
    roots = sorted((d for d in best.values() if d.spec.id not in held_down),
                   key=lambda d: (d.spec.id not in grave, *_score_key(d)))
    return Ranking(tuple(roots), tuple(effects), also, _rivals(roots))


def _score_key(draft: Draft) -> tuple[float, str]:
    return -draft.score, draft.spec.id


def _explains(cause: Draft, effect: Draft) -> bool:
    if effect.spec.id not in cause.explains:
        return False
    if cause.link == 0 and effect.link >= 2:
        return False
    return not (cause.onset_ns and effect.onset_ns and cause.onset_ns > effect.onset_ns + SLACK_NS)


def _rivals(roots: Sequence[Draft]) -> bool:
    """Whether the two best explain the very same alerts about equally well."""
    if len(roots) < 2 or roots[0].link < 1:
        return False
    first, second = roots[0], roots[1]
    return abs(first.score - second.score) < RIVAL and first.explained == second.explained


def _link(draft: Draft, specs: Sequence[CauseSpec], scene: Scene) -> Draft:
    """The draft with its link to the alerts, the alerts it explains, and its score."""
    alerts = scene.case.incident.alerts
    direct = {a.fingerprint: alert_link(draft, a) for a in alerts}
    link = max(direct.values(), default=2)
    explained = {f for f, value in direct.items() if value}
    if link == 0:
        children = [s for s in specs if s.id in draft.explains]
        explained = {a.fingerprint for a in alerts if any(a.name in s.alerts for s in children)
                     and not _of_another(draft, a)}
        link = 1 if explained else 0
    score = link * 30.0 + _strength(draft, scene)
    return replace(draft, link=link, explained=frozenset(explained), score=score)


def _of_another(draft: Draft, alert: Alert) -> bool:
    """Whether an alert speaks of a thing of the draft's kind that has nothing to do with the draft's own."""
    own = dict(alert.labels).get(draft.table.label)
    return own is not None and unrelated(draft.table.label, draft.entity, own)


def alert_link(draft: Draft, alert: Alert) -> int:
    """0..3, see rca.judge.link_of; a statistical alert is tied by what it is about, not by its name."""
    if alert.name not in GENERIC:
        return link_of(draft.spec, draft.table.label, draft.entity, alert.name, dict(alert.labels))
    about = {family(s) for s in subsystems(draft.spec)}
    if family(subject_of(alert)) not in about:
        return 0
    own = dict(alert.labels).get(draft.table.label) if draft.table.label else None
    return 2 if own in (None, draft.entity) else 0


def suspected(spec: CauseSpec, scene: Scene) -> bool:
    """Whether an alert of the incident makes one think of this cause at all."""
    about = {family(s) for s in subsystems(spec)}
    return any(a.name in spec.alerts or (a.name in GENERIC and family(subject_of(a)) in about)
               for a in scene.case.incident.alerts)


def subject_of(alert: Alert) -> str:
    """What a statistical alert speaks of: a subsystem or a series name."""
    return dict(alert.labels).get("subsystem") or alert.series_key or alert.summary.split(" ")[0]


def family(name: str) -> str:
    """Family of a subsystem or series name: cpu, memory, disk, network, cgroup, gpu ..."""
    words = name.split("{", 1)[0].split("_")
    first = words[1] if words[0] in ("pressure", "cgroup") and len(words) > 1 else words[0]
    return _FAMILIES.get(first, first)


def _strength(draft: Draft, scene: Scene) -> float:
    deviations = [abs(o.deviation) for o in draft.supports if math.isfinite(o.deviation)]
    deviation = math.log2(1.0 + max(deviations, default=0.0))
    early = 2.0 if draft.onset_ns and draft.onset_ns <= scene.case.onset_ns + SLACK_NS else 0.0
    clear = 2.0 if draft.blame and draft.blame.clear else 0.0
    hard = 15.0 if draft.spec.hard else 0.0
    return hard + draft.spec.specific * 6.0 + min(len(draft.groups), 4) * 3.0 + min(deviation, 6.0) + early + clear


def thin(draft: Draft) -> bool:
    """Whether too many samples of its first piece of evidence are missing."""
    return min((o.evidence.coverage for o in draft.supports[:1]), default=0.0) < 0.5


def verdict(draft: Draft) -> Verdict:
    """CONFIRMED, LIKELY or INCONCLUSIVE for one draft. No probabilities: a rule that can be read."""
    if draft.link == 0:
        return "INCONCLUSIVE"
    unclear = draft.spec.culprit_needed and not (draft.blame and draft.blame.clear)
    if draft.doubts or unclear or thin(draft):
        return "LIKELY"
    return "CONFIRMED" if draft.spec.hard or len(draft.groups) >= 2 else "LIKELY"
