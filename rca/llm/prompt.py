"""What a model is told: figures and ids, never a name. Names are put back when the narrative is rendered.

Names of processes, control groups, mounts and peers are chosen by anybody who can run a program on the host, so they
are replaced by ids (P1, C1, D1). Claims and titles, which may hold names, stay here, too.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from etio.core.evidence import Evidence
from etio.core.report import Culprit, Finding, Report
from rca.llm import numbers
from rca.llm.schema import answer_schema, enum

SYSTEM = """You explain one incident on a Linux host to its operator. A program has already measured, ranked and
proved; you only put its result into plain words.
You get evidence (E1, E2 ...) with figures, causes that were found or ruled out, and ids for things (P process,
C control group, D device, M mount, X other). There are no other facts.
Answer with JSON: "order" = ids of the found causes, best first; "sentences" = 2 to 6 short sentences that explain
what happened, in order of time, each with the ids of the evidence it rests on (the cause first, the effect last);
"cards" = at most two ids of the suggestions to begin with.
Rules, checked by a program that drops every sentence that breaks one:
- Only figures from the evidence the sentence cites, exactly as they are shown there, with their unit.
- Say that something rose, fell or stayed only as its "moved" says.
- Something may only cause what began later ("began_s": seconds after the incident began).
- Never present a cause from "ruled_out" as real.
- Plain words of performance analysis; no advice, no commands, no links, no markup, no names, no words in quotes.
- Refer to things by their id, such as C1."""
_METRIC = re.compile(r"[a-z][a-z0-9_]{1,79}")
_LETTERS = {"pid": "P", "process": "P", "cgroup": "C", "unit": "C", "device": "D", "gpu": "D", "mount": "M"}
_PREFIX = {"pid": "process ", "gpu": "GPU "}
_SHOWN = re.compile(r"[^A-Za-z0-9 .,_:/@()+-]")


@dataclass(frozen=True, slots=True)
class Brief:
    """One request. names: opaque id to what a person calls it, already harmless. canary: must never come back."""

    system: str
    user: str
    schema: dict[str, Any]
    names: dict[str, str]
    canary: str


def brief(report: Report) -> Brief:
    """The request about this report."""
    names = _Names()
    canary = hashlib.blake2b(f"{report.id}/{report.created_ns}".encode(), digest_size=6).hexdigest()
    data = {
        "evidence": [_evidence_row(e, report.since_ns, names) for e in report.evidence],
        "found": [_finding_row(f, names, report) for f in report.findings],
        "ruled_out": [{"cause": r.cause, "evidence": list(r.evidence)} for r in report.ruled_out],
        "note": f"internal mark {canary}, not for the answer",
    }
    return Brief(SYSTEM, json.dumps(data, separators=(",", ":")), answer_schema(report), names.shown, canary)


def again(first: Brief, problem: str) -> str:
    """The user message of the one repair attempt."""
    return f"{first.user}\nYour last answer was refused: {problem}. Answer again, with JSON of the schema only."


class _Names:
    """Opaque ids, handed out in the order in which things are met."""

    def __init__(self) -> None:
        self.shown: dict[str, str] = {}
        self._ids: dict[tuple[str, str], str] = {}

    def id(self, kind: str, name: str) -> str:
        """The id of one thing; the same for the same thing."""
        letter = _LETTERS.get(kind, "X")
        key = (letter, name)
        if key not in self._ids:
            taken = sum(known[0] == letter for known in self._ids)
            self._ids[key] = f"{letter}{taken + 1}"
            self.shown[self._ids[key]] = _PREFIX.get(kind, "") + harmless(name)
        return self._ids[key]

    def who(self, culprit: Culprit) -> str:
        """The id of a culprit; the same as that of its process or group where evidence speaks of it."""
        if culprit.pid and culprit.kind == "process":
            known = self.id("pid", str(culprit.pid))
            self.shown[known] = f"{harmless(culprit.name)} (process {culprit.pid})"
            return known
        if culprit.cgroup and culprit.kind in ("cgroup", "unit"):
            return self.id("cgroup", culprit.cgroup)
        return self.id(culprit.kind, culprit.name)

    def of(self, entity: str) -> str:
        """The id of an entity in the notation of Series.entity; "host" stays."""
        if "=" not in entity:
            return "host"
        kind, _, name = entity.partition("=")
        if kind not in _LETTERS:
            return self.id("other", entity)
        return self.id(kind, re.split(r",(?=[a-z_]+=)", name)[0])


def harmless(name: str) -> str:
    """A name that carries no markup, no link and no line break, whoever chose it; at most 60 characters.

    >>> harmless("<b>http://x.y</b>")
    '?b?http:/x.y?/b?'
    """
    return re.sub(r"/{2,}", "/", _SHOWN.sub("?", name.replace("=", " ")))[:60].strip() or "?"


def metric(item: Evidence) -> str:
    """Name of the series, a word of ours; the kind of evidence where it rests on none."""
    name = item.series_key.split("{", 1)[0]
    return name if _METRIC.fullmatch(name) else item.kind


def _evidence_row(item: Evidence, since_ns: int, names: _Names) -> dict[str, Any]:
    moved = {1: "rose", -1: "fell", 0: "stayed", None: "unknown"}[numbers.direction(item)]
    row: dict[str, Any] = {
        "id": item.id, "metric": metric(item), "of": names.of(item.entity), "moved": moved,
        "value": numbers.show(item.value, item.unit), "calm": numbers.show(item.baseline, item.unit),
    }  # fmt: skip
    if item.onset_ns > 0:
        row["began_s"] = round((item.onset_ns - since_ns) / 1e9, 1)
    if item.score == item.score:
        row["thresholds"] = round(item.score, 1)
    return row


def _finding_row(finding: Finding, names: _Names, report: Report) -> dict[str, Any]:
    row: dict[str, Any] = {
        "cause": finding.cause, "verdict": finding.verdict, "of": names.of(finding.entity),
        "supports": list(finding.supports), "refutes": list(finding.refutes),
        "cards": enum([s.card for s in report.suggestions if s.cause in (finding.cause, "")]),
    }  # fmt: skip
    if who := finding.culprit or report.culprit:
        row["who"] = names.who(who)
    return row
