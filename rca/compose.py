"""From ranked causes to the parts of a report: evidence gets its numbers, findings their sentences."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from etio.core.evidence import Evidence
from etio.core.report import Finding, RuledOut
from rca.graph import Ranking, suspected, thin, verdict
from rca.scene import Scene
from rca.spec import Draft, Outcome, Rejected, Unjudged
from rca.telling import Telling, key_of
from rca.units import clean
from rca.victims import victims


class Exhibits:
    """The evidence table while it is filled: each piece once, in order of first use, at most `limit`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.reserve = limit // 4
        """Rows kept for what was ruled out."""
        self.ids: dict[tuple[str, str], str] = {}
        self.evidence: list[Evidence] = []

    def cite(self, evidence: Evidence, reserve: int = 0) -> str:
        """Its id, "" when the table (less `reserve` rows) is full."""
        key = key_of(evidence)
        if key not in self.ids and len(self.evidence) < self._limit - reserve:
            self.ids[key] = f"E{len(self.evidence) + 1}"
            self.evidence.append(replace(evidence, id=self.ids[key]))
        return self.ids.get(key, "")

    def cite_all(self, evidence: Iterable[Evidence], reserve: int = 0) -> tuple[str, ...]:
        """Ids of all that found room."""
        return tuple(i for e in evidence if (i := self.cite(e, reserve)))


def findings(ranking: Ranking, scene: Scene, exhibits: Exhibits) -> tuple[Finding, ...]:
    """One Finding for each root, best first."""
    return tuple(_finding(draft, at, ranking, scene, exhibits) for at, draft in enumerate(ranking.roots))


def _finding(draft: Draft, at: int, ranking: Ranking, scene: Scene, exhibits: Exhibits) -> Finding:
    supports = draft.supports if at == 0 else draft.supports[:3]
    first = [o.evidence for o in supports[:3]]
    blamed = [draft.blame.evidence] if draft.blame else []
    pieces = [*first, *blamed, *(o.evidence for o in supports[3:])]
    ids = exhibits.cite_all(pieces, exhibits.reserve)
    against = exhibits.cite_all((o.evidence for o in draft.doubts), exhibits.reserve)
    telling = Telling(draft, scene, exhibits.ids)
    culprit = draft.blame.culprit if draft.blame else None
    if culprit and draft.blame:
        culprit = replace(culprit, evidence=exhibits.cite_all([draft.blame.evidence], exhibits.reserve))
    decided = "INCONCLUSIVE" if at < 2 and ranking.rivals else verdict(draft)
    told = telling.all(draft.table.summary or draft.spec.summary)
    suffers = victims(draft, scene) if at == 0 else None
    harm = f"{suffers.claim} [{number}]." if suffers and (number := exhibits.cite(suffers)) else ""
    explanation = " ".join(filter(None, (told, harm, _also(draft, ranking), _limits(draft))))
    return Finding(draft.spec.id, headline(draft, telling), decided, explanation, ids, against,
                   draft.entity_text, culprit, round(draft.score, 1))


def headline(draft: Draft, telling: Telling) -> str:
    """The title of a finding, in plain words."""
    return telling.first(draft.table.headlines or draft.spec.headlines) or draft.spec.title.capitalize()


def _also(draft: Draft, ranking: Ranking) -> str:
    others = [clean(d.entity, 40) for d in ranking.also
              if d.spec.id == draft.spec.id and d.entity and d.table.label == draft.table.label]
    return f"The same holds for {', '.join(others[:5])}." if others else ""


def _limits(draft: Draft) -> str:
    """Why a finding is no more than LIKELY, in words."""
    notes = [f"Against it speaks: {o.evidence.claim}." for o in draft.doubts]
    if draft.blame and not draft.blame.clear:
        notes.append("No single culprit stands out.")
    elif draft.blame is None and draft.spec.culprit_needed:
        notes.append("Who is behind it could not be seen.")
    if thin(draft):
        notes.append("Fewer than half of the samples behind it are there.")
    if not draft.spec.hard and len(draft.groups) < 2:
        notes.append("It rests on a single source.")
    if not draft.link:
        notes.append("Nothing ties it to the alerts of this incident.")
    return " ".join(notes)


def ruled_out(rejected: Sequence[Rejected], scene: Scene, exhibits: Exhibits) -> tuple[RuledOut, ...]:
    """Causes that do not fit, the most obvious suspects first."""
    ordered = sorted(rejected, key=lambda r: (not suspected(r.spec, scene), -r.near, r.spec.hard, r.spec.id))
    kept = ordered[:scene.case.settings.max_ruled_out]
    return tuple(RuledOut(r.spec.id, r.spec.title, r.reason, exhibits.cite_all([r.outcome.evidence])) for r in kept)


def follows(ranking: Ranking, scene: Scene) -> tuple[str, ...]:
    """What is an effect and not a cause, one sentence each."""
    told = []
    for effect, cause in ranking.effects:
        where = f" of {clean(effect.entity, 60)}" if effect.entity else ""
        first: Outcome = effect.supports[0]
        told.append(f"{effect.spec.title}{where} ({first.evidence.claim}): goes with: {cause.spec.title}")
    return tuple(told)


def remaining(unjudged: Sequence[Unjudged], scene: Scene) -> tuple[str, ...]:
    """Explanations that are still open because they could not be judged, as "title: what is missing"."""
    return tuple(f"{u.spec.title} could not be judged: {_missing(u)}" for u in unjudged if suspected(u.spec, scene))


def _missing(unjudged: Unjudged) -> str:
    names = [o.evidence.series_key or o.name for o in unjudged.missing]
    return f"{', '.join(names[:3])} {'was' if len(names) == 1 else 'were'} not collected"
