"""A report and a model: the report comes back with a narrative, or unchanged but for the reason why there is none."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from etio.core.errors import ModelError
from etio.core.ports import Answer, ChatModel
from etio.core.report import Finding, ModelNote, Report
from rca.llm import verify
from rca.llm.prompt import Brief, again, brief, harmless
from rca.llm.schema import mismatches
from rca.llm.wire import InvalidAnswer, clean_name, decode

LEAST_SECONDS = 1.0
"""With less than this left, a repair is not tried."""


@dataclass(slots=True)
class _Spent:
    """What the attempts cost together."""

    start: float
    prompt_tokens: int = 0
    answer_tokens: int = 0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.start


def assist(report: Report, chat: ChatModel, deadline_s: float) -> Report:
    """The report with a verified narrative.

    Whatever the model does, findings, evidence, suggestions and verdict stay as they are; only findings of equal rank
    may change places. On any ModelError the report is unchanged except for `model`, which then says why.
    """
    spent = _Spent(time.monotonic())
    try:
        if not report.findings or not report.evidence:
            raise ModelError("there is no finding to put into words")
        asked = brief(report)
        answer = _ask(asked, chat, deadline_s, spent)
        return _apply(report, asked, answer, _note(chat, spent, "llm"))
    except ModelError as error:
        note = _note(chat, spent, "deterministic")
        return replace(report, model=replace(note, fallback_reason=str(error)))


def _note(chat: ChatModel, spent: _Spent, mode: Any) -> ModelNote:
    return ModelNote(
        mode, clean_name(chat.name), harmless(chat.endpoint), round(spent.seconds, 3), spent.prompt_tokens,
        spent.answer_tokens,
    )  # fmt: skip


def _ask(asked: Brief, chat: ChatModel, deadline_s: float, spent: _Spent) -> dict[str, Any]:
    """One answer of the schema, with one repair attempt. Raises ModelError."""
    try:
        return _checked(asked, chat.ask(asked.system, asked.user, asked.schema, deadline_s), spent)
    except InvalidAnswer as error:
        left = deadline_s - spent.seconds
        if left < LEAST_SECONDS:
            raise ModelError(f"{error}; no time was left to ask again") from error
        user = again(asked, str(error))
    try:
        return _checked(asked, chat.ask(asked.system, user, asked.schema, left), spent)
    except InvalidAnswer as error:
        raise ModelError(f"{error}, twice") from error


def _checked(asked: Brief, answer: Answer, spent: _Spent) -> dict[str, Any]:
    """The answer as plain values of the schema. Raises InvalidAnswer, or ModelError when the canary came out."""
    spent.prompt_tokens += answer.prompt_tokens
    spent.answer_tokens += answer.answer_tokens
    if asked.canary in answer.text:
        raise ModelError("the answer repeats internal data, so nothing of it is used")
    value = decode(answer.text)
    if problem := next(mismatches(value, asked.schema), ""):
        raise InvalidAnswer(problem)
    result: dict[str, Any] = value
    return result


def _apply(report: Report, asked: Brief, answer: dict[str, Any], note: ModelNote) -> Report:
    kept, removed = _narrative(report, asked, answer["sentences"])
    findings, demoted = reorder(report, answer["order"])
    removed += demoted
    if not kept:
        reason = "the evidence carries none of its sentences"
        note = replace(note, mode="deterministic", fallback_reason=reason, removed=tuple(removed))
        return replace(report, model=note)
    kept += _first_steps(report, answer.get("cards", []))
    narrative = " ".join(kept)
    return replace(report, findings=findings, narrative=narrative, model=replace(note, removed=tuple(removed)))


def _narrative(report: Report, asked: Brief, sentences: Sequence[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """The sentences that stand, with names; and why the others do not."""
    kept, removed = [], []
    for number, item in enumerate(sentences, 1):
        sentence = verify.read(item["text"], item["evidence"], report, frozenset(asked.names))
        if reason := verify.verdict(sentence):
            removed.append(f'sentence {number} ("{verify.quotable(sentence)}"): {reason}')
        else:
            kept.append(verify.with_names(sentence, asked.names))
    return list(dict.fromkeys(kept)), removed


def _first_steps(report: Report, cards: Sequence[str]) -> list[str]:
    """The suggestions the model would begin with, in the cards' words."""
    titles = [harmless(s.title) for card in dict.fromkeys(cards) for s in report.suggestions if s.card == card]
    return [f"To begin with: {'; '.join(titles)}."] if titles else []


def reorder(report: Report, order: Sequence[str]) -> tuple[tuple[Finding, ...], list[str]]:
    """Findings as the model ranks them, as far as the evidence allows; and what was not followed.

    Only neighbours of equal verdict and rank change places, none that is refuted moves ahead of one that is not, and
    none that began later moves ahead of one that began earlier.
    """
    wish = {cause: place for place, cause in enumerate(dict.fromkeys(order))}
    onset = {e.id: e.onset_ns for e in report.evidence if e.onset_ns > 0}
    found, refused = list(report.findings), []
    for _ in found:
        for i in range(len(found) - 1):
            ahead, behind = found[i], found[i + 1]
            if wish.get(behind.cause, len(wish)) >= wish.get(ahead.cause, len(wish)):
                continue
            if reason := _why_not(ahead, behind, onset):
                refused.append(f"order ({behind.cause} before {ahead.cause}): {reason}")
            else:
                found[i], found[i + 1] = behind, ahead
    return tuple(found), list(dict.fromkeys(refused))


def _why_not(ahead: Finding, behind: Finding, onset: dict[str, int]) -> str:
    """Why `behind` may not move before `ahead`; "" when it may."""
    if (ahead.verdict, ahead.rank_score) != (behind.verdict, behind.rank_score):
        return "they are not ranked equal"
    if behind.refutes and not ahead.refutes:
        return "evidence speaks against it"
    first, second = (min((onset[i] for i in f.supports if i in onset), default=0) for f in (ahead, behind))
    if first and second > first + verify.ONSET_SLACK_NS:
        return "it began later"
    return ""
