"""Does the evidence carry what a model wrote? Plain code, no model; a sentence that fails is dropped with a reason.

Each check answers one way in which language models are known to go wrong: invented ids and numbers, wrong direction,
wrong order of cause and effect, a refuted cause revived, text that is no explanation but a link, a command or an order.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from etio.core.evidence import Evidence
from etio.core.report import Report
from rca.llm import numbers, words
from rca.llm.prompt import metric

MAX_CHARS = 280
ONSET_SLACK_NS = 1_500_000_000
"""Onsets come from one sample per second; closer than this their order is not known."""
_ENTITY_ID = re.compile(r"\b[PCDMX][0-9]{1,3}\b")
_ANY_ID = re.compile(r"\b[A-Z][0-9]{1,4}\b")
_CITED = re.compile(r"\s*[\[(]\s*E[0-9]{1,4}(?:\s*(?:,|and)\s*E[0-9]{1,4})*\s*[\])]")
_EVIDENCE_ID = re.compile(r"\bE[0-9]{1,4}\b")
_FORBIDDEN = re.compile(r"[^A-Za-z0-9 .,:;%()/'_-]|(?<![A-Za-z0-9])/|/(?![A-Za-z0-9])|[A-Za-z]\.[A-Za-z]|(?:^|\s)-\S")
_PERCENTILE = re.compile(r"\bp[0-9]{2}\b")
_REFERENCE = re.compile(
    r"\b(times|above|over|than|exceed\w*|from) (its|the|their) (usual|typical|normal) (value|level|range)"
)
_WORD = re.compile(r"[A-Za-z]+(?:'[a-z]+)?")
_TIDY = str.maketrans({"\u2019": "'", "\u2018": "'", "\u2013": "-", "\u2014": "-", "\u2011": "-", "\u00a0": " "})


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence under examination. words: in lower case, ids and units left out; cited: the evidence it rests on."""

    text: str
    words: frozenset[str]
    cited: tuple[Evidence, ...]
    report: Report
    names: frozenset[str]

    @property
    def negated(self) -> bool:
        """Whether it says that something is not so."""
        return bool(self.words & words.NEGATION) or any(w.endswith("n't") for w in self.words)


def read(text: str, ids: Sequence[str], report: Report, names: frozenset[str]) -> Sentence:
    """A sentence as the checks want it. ids: the evidence it claims to rest on, in its order."""
    known = {e.id: e for e in report.evidence}
    tidy = " ".join(_CITED.sub("", text.translate(_TIDY)).split())
    inline = [i for i in _EVIDENCE_ID.findall(text) if i in known]
    cited = dict.fromkeys([i for i in ids if i in known] + inline)
    bare = _PERCENTILE.sub(" ", _ANY_ID.sub(" ", tidy).replace("_", " "))
    found = frozenset(w.lower() for w in _WORD.findall(bare))
    return Sentence(tidy, found, tuple(known[i] for i in cited), report, names)


def verdict(sentence: Sentence) -> str:
    """Why the sentence is dropped, in words of ours; "" when it stands."""
    return next((reason for check in CHECKS if (reason := check(sentence))), "")


def _form(s: Sentence) -> str:
    if not s.text:
        return "it is empty"
    if len(s.text) > MAX_CHARS:
        return f"it is longer than {MAX_CHARS} characters"
    return "it holds markup, a link or a command" if _FORBIDDEN.search(s.text) else ""


def _ids(s: Sentence) -> str:
    if not s.cited:
        return "it rests on no evidence"
    known = s.names | {e.id for e in s.report.evidence}
    unknown = [i for i in _ANY_ID.findall(s.text) if i not in known]
    return f"{unknown[0]} does not exist" if unknown else ""


def admitted_words(s: Sentence) -> frozenset[str]:
    """The closed vocabulary of this sentence."""
    causes = tuple(f.cause for f in s.report.findings) + tuple(r.cause for r in s.report.ruled_out if s.negated)
    metrics = frozenset(word for e in s.cited for word in metric(e).split("_"))
    return words.ADMITTED | words.topic_words(causes) | metrics


def _vocabulary(s: Sentence) -> str:
    admitted = admitted_words(s)
    unknown = [w for w in s.words if w not in admitted and w.removesuffix("'s") not in admitted and "n't" not in w]
    return "it uses words outside the vocabulary of this report" if unknown else ""


def _numbers(s: Sentence) -> str:
    text = _ANY_ID.sub(" ", s.text)
    for quantity in numbers.quantities(text):
        if not numbers.is_carried(quantity, s.cited, s.report.since_ns):
            return f"{quantity.text} is not in {_list(s)}"
    return ""


def _direction(s: Sentence) -> str:
    moves = [numbers.direction(e) for e in s.cited]
    own = frozenset(word for e in s.cited for word in metric(e).split("_"))
    for lexicon, sign, word in ((words.RISING, 1, "rose"), (words.FALLING, -1, "fell")):
        said = bool(s.words & (lexicon - own))
        if said and s.negated and sign in moves:
            return f"{_list(s)} {word}"
        if said and not s.negated and sign not in moves:
            return f"{_list(s)} does not show that anything {word}"
    return ""


def _level(s: Sentence) -> str:
    high = any(e.score >= 1 or numbers.direction(e) == 1 or e.kind == "event" for e in s.cited)
    loud = any(e.score >= 1 for e in s.cited)
    own = frozenset(word for e in s.cited for word in metric(e).split("_"))
    if s.words & (words.HIGH - own) and not s.negated and not high:
        return f"{_list(s)} does not show a high level"
    if s.words & (words.LOW - own) and all(e.score >= 1 and numbers.direction(e) == 1 for e in s.cited):
        return f"{_list(s)} does not show a low level"
    calm = s.words & words.STILL and not _REFERENCE.search(s.text)
    return f"{_list(s)} is far from usual" if calm and loud and not s.negated else ""


def _order(s: Sentence) -> str:
    if not s.words & words.CAUSAL or s.negated:
        return ""
    onsets = [e.onset_ns for e in s.cited if e.onset_ns > 0]
    if any(later < earlier - ONSET_SLACK_NS for earlier, later in pairwise(onsets)):
        return f"the order of cause and effect does not agree with the onsets of {_list(s)}"
    supports = {i for f in s.report.findings for i in f.supports}
    if len(onsets) < 2 and not any(e.id in supports for e in s.cited):
        return f"{_list(s)} does not carry a statement about cause and effect"
    return ""


def _refuted(s: Sentence) -> str:
    """A cause that was ruled out may only be named as such."""
    found = {f.cause for f in s.report.findings}
    text = s.text.replace("_", " ").lower()
    for cause in (r.cause for r in s.report.ruled_out if r.cause not in found):
        if cause.replace("_", " ") in text and not s.negated:
            return f"{cause} was ruled out"
    return ""


CHECKS: tuple[Callable[[Sentence], str], ...] = (
    _form, _ids, _refuted, _vocabulary, _numbers, _direction, _level, _order
)  # fmt: skip


def _list(s: Sentence) -> str:
    return ", ".join(e.id for e in s.cited)


def quotable(sentence: Sentence) -> str:
    """What of a dropped sentence may be shown: its admitted words, all else is an ellipsis; at most 100 signs."""
    admitted, kept = admitted_words(sentence), []
    for token in sentence.text[:400].split():
        word = token.strip(".,:;()").lower()
        fine = word in admitted or _ANY_ID.fullmatch(word.upper()) or re.fullmatch(r"[0-9][0-9.,]{0,11}%?", word)
        kept.append(token.strip("()") if fine else "...")
    return re.sub(r"(\.\.\. ?){2,}", "... ", " ".join(kept))[:100].strip()


def with_names(sentence: Sentence, names: dict[str, str]) -> str:
    """The sentence for the report: names put back, evidence named at its end."""
    text = _ENTITY_ID.sub(lambda m: names.get(m.group(0), m.group(0)), sentence.text).rstrip(" .;,:")
    return f"{text[:1].upper()}{text[1:]} [{_list(sentence)}]."
