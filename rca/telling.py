"""Sentences from templates: a sentence is told only when everything it mentions is known.

A template holds names in braces. ``{cpu_busy_ratio}`` is the value now of that series of the finding,
``{cpu_busy_ratio:ref}`` its evidence id in square brackets, ``{cpu_busy_ratio:seen}`` the id and, where it is known,
what the value was before ("[E1]; it was 8 % before"), ``{x:times}`` a rate as "12 times per second",
``{x:what}`` the values of its labels and what they mean, ``{x:said}`` its claim as a sentence and ``{x:told}`` what
follows the colon in it. Other names are
``{who}``, ``{pid}``, ``{claim}`` (of the culprit), ``{blame:ref}``, ``{entity}``, ``{host}``, ``{cpus}``,
``{all_cpus}``, ``{unnamed}`` ("a process", only where nobody is blamed), ``{since}``.
What is filled in is never read as a template again, so a hostile name stays a name.
"""

import math
import re
from collections.abc import Iterable, Mapping

from etio.core.evidence import Evidence
from rca.meanings import meaning
from rca.scene import Scene
from rca.spec import Draft
from rca.units import clean, clock, plural, spoken

ALL_CPUS = {0: "all CPUs", 1: "the CPU", 2: "both CPUs"}
_ENDS = re.compile(r"[.,:;]")
_SLOT = re.compile(r"\{([a-z0-9_]+)(?::([a-z]+))?\}")


class Telling:
    """Fills the templates of one finding."""

    def __init__(self, draft: Draft, scene: Scene, ids: Mapping[tuple[str, str], str]) -> None:
        self._ids = ids
        self._evidence: dict[str, Evidence] = {}
        for outcome in draft.supports:
            self._evidence.setdefault(outcome.name, outcome.evidence)
        self._plain = _plain(draft, scene)
        if draft.blame:
            self._evidence["blame"] = draft.blame.evidence

    def first(self, templates: Iterable[str]) -> str:
        """The first template that can be told; "" where none can. None says of a thing that it did it to itself."""
        same = self._plain["who"] == self._plain["entity"]
        return next((text for t in templates if not (same and "{who}" in t and "{entity}" in t)
                     and (text := self.fill(t)) is not None), "")

    def all(self, templates: Iterable[str]) -> str:
        """Every template that can be told, as one paragraph."""
        return " ".join(text for t in templates if (text := self.fill(t)) is not None)

    def fill(self, template: str) -> str | None:
        """The sentence, or None where something it mentions is unknown."""
        parts, at = [], 0
        for slot in _SLOT.finditer(template):
            value = self._slot(slot[1], slot[2] or "")
            if value is None:
                return None
            at, before = slot.end(), template[at:slot.start()]
            if not value and _ENDS.match(template, at):  # a reference that found no room in the table
                before = before.rstrip()
            parts += [before, value]
        return "".join([*parts, template[at:]])

    def _slot(self, name: str, form: str) -> str | None:
        if not form and name in self._plain:
            return self._plain[name] or None
        evidence = self._evidence.get(name)
        if evidence is None:
            return None
        if form in ("ref", "seen"):
            return self._reference(evidence, form)
        if form == "what":
            names = [part.partition("=")[2] for part in evidence.entity.split(",")]
            return clean(", ".join(names), 60) + meaning(names[0]) or None
        if form in ("said", "told"):
            head, _, rest = evidence.claim.partition(": ")
            return (rest if form == "told" else f"{head[:1].upper()}{head[1:]}: {rest}") if rest else None
        if math.isnan(evidence.value):
            return None
        told = spoken(evidence.value, evidence.unit)
        return told.replace(" per second", " times per second") if form == "times" else told

    def _reference(self, evidence: Evidence, form: str) -> str:
        number = self._ids.get(key_of(evidence))
        reference = f"[{number}]" if number else ""
        if form == "ref" or math.isnan(evidence.baseline):
            return reference
        return f"{reference}; it was {spoken(evidence.baseline, evidence.unit)} before"


def key_of(evidence: Evidence) -> tuple[str, str]:
    """What makes two pieces of evidence the same one."""
    return evidence.kind, evidence.series_key or evidence.claim


def _plain(draft: Draft, scene: Scene) -> dict[str, str]:
    culprit = draft.blame.culprit if draft.blame and draft.blame.clear else None
    return {
        "who": clean(culprit.name, 60) if culprit else "",
        "pid": str(culprit.pid) if culprit and culprit.pid else "",
        "claim": draft.blame.culprit.claim if draft.blame else "",
        "unnamed": "" if draft.blame else "a process",
        "entity": clean(draft.entity, 60),
        "host": clean(scene.case.host, 60),
        "cpus": plural(scene.cpus, "CPU") if scene.cpus else "",
        "all_cpus": ALL_CPUS.get(scene.cpus) or f"all {plural(scene.cpus, 'CPU')}",
        "since": clock(draft.onset_ns) if draft.onset_ns else "",
    }
