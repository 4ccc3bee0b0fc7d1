"""The root-cause agent: one incident in, one report out. Deterministic; a language model may only add words to it."""

import math
from collections.abc import Sequence
from dataclasses import replace

from etio.core.evidence import Evidence
from etio.core.facts import Facts
from etio.core.frame import NS
from etio.core.policy import by_model
from etio.core.ports import ChatModel, History, Knobs
from etio.core.report import DataQuality, Finding, ModelNote, Overhead, Report, Suggestion
from rca import compose, unknown
from rca.case import Case
from rca.chronicle import changes, failures, timeline
from rca.compose import Exhibits
from rca.discover import causes
from rca.evidence import BAND
from rca.graph import Ranking, rank, suspected, verdict
from rca.judge import judge, series_names
from rca.lasting import until_ns
from rca.scene import Scene
from rca.spec import CauseSpec, Draft, Rejected, Unjudged
from rca.units import clean, clock, humanise, plural

ALWAYS = ("cpu_count", "memory_total_bytes", "memory_available_bytes", "memory_anon_bytes", "cgroup_cpu_quota_cores",
          "cgroup_cpu_usage_cores", "filesystem_readonly")


MOST_STEPS = 5
UNHEARD = 15.0
"""Score from which a finding is told although no alert speaks of it: three sources that left their usual range."""


def explain(case: Case, history: History, facts: Facts, knobs: Knobs, chat: ChatModel | None = None) -> Report:
    """Explains an incident. Reads history and knobs, writes nothing; complete without `chat`."""
    specs = causes()
    window = history.window(case.start_ns, case.now_ns, _names(specs, case))
    case = replace(case, until_ns=until_ns(window, case))
    scene = Scene(case, window, history.events(case.start_ns, case.now_ns), facts)
    drafts, rejected, unjudged = _judge_all(specs, scene)
    ranking = rank(drafts, specs, scene)
    if not any(verdict(d) != "INCONCLUSIVE" for d in ranking.roots):  # then whatever was recorded may matter
        scene = Scene(case, history.window(case.start_ns, case.now_ns), scene.events, facts)
    report = _report(scene, ranking, rejected, unjudged)
    report = replace(report, suggestions=_suggest(report, facts, knobs, case.now_ns))
    if chat is None:
        return report
    from rca.llm.assist import assist

    return assist(report, chat, case.settings.llm_deadline_s)


def _names(specs: Sequence[CauseSpec], case: Case) -> list[str]:
    names = {n for spec in specs for n in series_names(spec)} | set(ALWAYS)
    names |= {a.series_key.split("{", 1)[0] for a in case.incident.alerts if a.series_key}
    return sorted(names)


def _judge_all(specs: Sequence[CauseSpec], scene: Scene) -> tuple[list[Draft], list[Rejected], list[Unjudged]]:
    judged = [one for spec in specs for one in judge(spec, scene)]
    return ([j for j in judged if isinstance(j, Draft)], [j for j in judged if isinstance(j, Rejected)],
            [j for j in judged if isinstance(j, Unjudged)])


def _suggest(report: Report, facts: Facts, knobs: Knobs, now_ns: int) -> tuple[Suggestion, ...]:
    """Cards for the first finding, and one for each further root, unless it is there already word for word."""
    from rca.cards import suggest

    found: list[Suggestion] = []
    if report.verdict == "INCONCLUSIVE":
        return ()
    for finding in report.findings[:3]:
        if finding.verdict != "INCONCLUSIVE":
            cards = suggest(finding, report.evidence, facts, knobs, now_ns)
            there = {(one.card, one.apply) for one in found}
            more = cards if finding is report.findings[0] else cards[:1]
            found += [one for one in more if (one.card, one.apply) not in there]
    return tuple(found)


def _report(scene: Scene, ranking: Ranking, rejected: list[Rejected], unjudged: list[Unjudged]) -> Report:
    case, exhibits = scene.case, Exhibits(scene.case.settings.max_evidence)
    findings = compose.findings(ranking, scene, exhibits)
    top = findings[0] if findings else None
    known = top is not None and top.verdict != "INCONCLUSIVE"
    open_ones = compose.remaining(unjudged, scene)
    certain = [any(abs(o.deviation) > BAND for o in d.supports) for d in ranking.roots]
    title, summary = _told(findings, certain, scene, exhibits, open_ones)
    ruled_out = compose.ruled_out(rejected, scene, exhibits)
    incident = case.incident
    return Report(
        id=f"{incident.id}-r{max(case.now_ns - incident.opened_ns, 0) // NS}", incident_id=incident.id,
        host=clean(case.host), created_ns=case.now_ns, since_ns=_since(ranking, case) if known else case.onset_ns,
        title=title, verdict=top.verdict if top else "INCONCLUSIVE",
        severity=incident.severity if incident.alerts else "info", summary=summary, findings=findings,
        ruled_out=ruled_out, evidence=tuple(exhibits.evidence), suggestions=(),
        timeline=timeline(scene, exhibits.evidence), changes=changes(scene), follows=compose.follows(ranking, scene),
        culprit=top.culprit if top and known else None,
        data_quality=_quality(scene, exhibits.evidence, open_ones),
        model=ModelNote("deterministic", fallback_reason="no model is configured"),
        overhead=Overhead(scene.facts.cpu_percent, scene.facts.pss_mb),
        alerts=tuple(f"{a.name} {clean(a.entity)}" for a in incident.alerts),
        seen_by=tuple(f"{model} model: {', '.join(names)}" for model, names in by_model(incident.alerts).items()),
        next_steps=() if top and top.verdict == "CONFIRMED" else _next_steps(ranking, unjudged, scene))


def _since(ranking: Ranking, case: Case) -> int:
    """When it began: the earliest onset of the first finding, within a minute around the first condition."""
    onset = ranking.roots[0].onset_ns
    near = abs(onset - case.onset_ns) <= case.settings.lead_s * NS
    return min(onset, case.onset_ns) if onset and near else case.onset_ns


def _told(
    findings: Sequence[Finding], certain: Sequence[bool], scene: Scene, exhibits: Exhibits, open_ones: Sequence[str]
) -> tuple[str, str]:
    """Title and summary paragraph. certain: whether evidence of each finding has left its usual range."""
    if findings and findings[0].verdict != "INCONCLUSIVE":
        others = [f for f in findings[1:] if f.verdict != "INCONCLUSIVE"]
        more = " ".join(f"Besides, and not explained by it: {f.title} ({f.verdict})." for f in others[:2])
        unheard = [f for f, sure in zip(findings[1:], certain[1:], strict=True)
                   if f.verdict == "INCONCLUSIVE" and f.rank_score >= UNHEARD and sure]
        also = " ".join(f"At the same time, without an alert so far: {f.title}." for f in unheard[:1])
        return findings[0].title, " ".join(filter(None, (findings[0].explanation, more, also, _over(scene.case))))
    gravest = sorted(scene.case.incident.alerts, key=lambda a: a.severity == "info")[:3]
    seen = "; ".join(clean(a.summary or a.name, 120) for a in gravest) or "something is unusual"
    known = f" {unknown.told(scene, exhibits.cite)}"
    left = [f.title for f in findings[:2]] + list(open_ones)
    what = f" Explanations that remain: {'; '.join(left)}." if left else " No known cause fits."
    verb = "remains" if len(left) == 1 else "remain"
    count = f"{plural(len(left), 'explanation')} {verb}" if left else "no known cause fits"
    over = " ".join(filter(None, ("", _over(scene.case))))
    return f"{seen}: {count}", f"etio does not know the cause.{known}{what}{over}"


def _over(case: Case) -> str:
    """That it was over when the report was made; its figures are those of the time while it lasted."""
    return f"It was last seen at {clock(case.until_ns)}; the figures are of the time before." if case.until_ns else ""


def _next_steps(ranking: Ranking, unjudged: Sequence[Unjudged], scene: Scene) -> tuple[str, ...]:
    """What would tell the remaining explanations apart."""
    steps = [f"{d.spec.title}: {d.spec.tell_apart}" for d in ranking.roots[:2] if verdict(d) != "CONFIRMED"]
    if ranking.rivals:
        steps = [f"{d.spec.title}: {d.spec.tell_apart}" for d in ranking.roots[:2]]
    open_ones = [f"{u.spec.title}: {u.spec.tell_apart}" for u in unjudged if suspected(u.spec, scene)]
    steps += open_ones if ranking.roots else open_ones[:2]  # what stands out must find room
    if not ranking.roots:
        near = sorted((s for s in causes() if suspected(s, scene)), key=lambda s: (-s.specific, s.id))
        steps += [f"{s.title}: {s.tell_apart}" for s in near][:max(0, 3 - len(steps))]
        steps += unknown.advice(scene)
    return tuple(dict.fromkeys(steps))[:MOST_STEPS]


def _quality(scene: Scene, evidence: Sequence[Evidence], open_ones: Sequence[str]) -> DataQuality:
    covered = [e.coverage for e in evidence if e.kind == "series"]
    told = [*map(clean, scene.facts.missing)]
    missing = [*told, *(f for f in failures(scene) if not any(f.split()[1] in m for m in told)), *open_ones]
    calm = [m for m in scene.all() if not math.isnan(m.baseline)]
    if not calm:
        missing.append("no baseline: too little calm history before the onset, values are judged by fixed limits")
    own = scene.census.own("cpu_cores")
    if own > 0.1:
        missing.append(f"etio itself used {humanise(own, 'cores')}, which is not counted against anybody")
    if not scene.facts.processes:
        missing.append("no process table: who did it can only be seen through the kernel's own counts")
    coverage = min(covered, default=0.0 if not scene.all() else 1.0)
    return DataQuality(scene.facts.tier, coverage, tuple(dict.fromkeys(missing)), scene.facts.dropped_series, not calm)


