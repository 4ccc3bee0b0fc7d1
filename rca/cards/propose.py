"""From the present value and the evidence to the proposed value: a closed set of calculators, no free formulas."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from etio.core.evidence import Evidence
from etio.core.facts import HostInfo
from rca.cards.card import Card, Range

_UNITS = {
    "": 1.0, "b": 1.0, "bytes": 1.0, "cores": 1.0, "core": 1.0, "cpus": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9,
    "tb": 1e12, "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30, "tib": 2.0**40, "%": 0.01,
}  # fmt: skip
_NUMBER = re.compile(r"\s*(-?[0-9][0-9,]*(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z%]*)")
_UNLIMITED = ("max", "unlimited", "none", "no limit", "inf", "infinity", "-1")
_RAW = re.compile(r"\(([a-z_]+\.[a-z_.]+=[^()]*)\)")
_BOTH_FILES = ("pids.",)
"""What is called the same in both versions, at different places."""
_V1_FILES = ("cpu.cfs_", "memory.limit_in_bytes", "cpu.shares", "freezer.")
DEFAULT_PERIOD_US = 100_000.0


@dataclass(frozen=True, slots=True)
class Present:
    """A value as Knobs printed it, understood as far as possible.

    number: NaN where it is no number, inf where there is no limit. word: the selected one of a list in brackets.
    raw: what the kernel files hold, where the text says so ("cpu.cfs_quota_us=50000"). version: of the cgroup,
        0 unknown.
    """

    text: str
    number: float = math.nan
    word: str = ""
    options: tuple[str, ...] = ()
    raw: tuple[tuple[str, str], ...] = ()
    version: int = 0

    @property
    def period_us(self) -> float:
        """Length of a CPU quota period as the kernel files say, else the kernel's default."""
        for name, held in self.raw:
            words = held.split()
            told = words[-1] if name == "cpu.cfs_period_us" or (name == "cpu.max" and len(words) == 2) else ""
            if told.isascii() and told.isdigit() and int(told) > 0:
                return float(told)
        return DEFAULT_PERIOD_US

    @property
    def several(self) -> str:
        """All numbers of a setting that holds several ("32768 60999"), with one blank between; "" for any other."""
        words = self.text.split()
        return " ".join(words) if len(words) > 1 and all(re.fullmatch(r"-?[0-9]+", w) for w in words) else ""

    @property
    def exact(self) -> float:
        """The number the kernel holds, where the printed one is rounded; NaN where it is not told."""
        held = (self.raw[0][1].split() or [""])[0] if self.raw else ""
        return float(held) if held.isascii() and held.isdigit() else math.nan


def understand(text: str) -> Present:
    """Reads a printed value; never raises.

    >>> understand("0.50 cores (cpu.cfs_quota_us=50000)").number
    0.5
    >>> understand("none [mq-deadline] bfq").word
    'mq-deadline'
    """
    match = _RAW.search(text)
    files = [part.partition("=") for part in match.group(1).split(", ")] if match else []
    raw = tuple((name, held.strip()) for name, _, held in files)
    head = (text[: match.start()] if match else text).strip()
    version = 0 if not raw or raw[0][0].startswith(_BOTH_FILES) else 1 if raw[0][0].startswith(_V1_FILES) else 2
    chosen = re.search(r"\[([^\]\s]+)\]", head)
    if chosen:
        return Present(text, word=chosen.group(1), options=tuple(head.replace("[", "").replace("]", "").split()))
    return Present(text, _number(head), word=head.split()[0] if head else "", raw=raw, version=version)


def _number(head: str) -> float:
    if head.lower().startswith(_UNLIMITED):
        return math.inf
    match = _NUMBER.match(head)
    if not match:
        return math.nan
    scale = _UNITS.get(match.group(2).lower(), 1.0)
    return float(match.group(1).replace(",", "")) * scale


@dataclass(frozen=True, slots=True)
class Proposal:
    """value: as a person reads it; number: NaN where it is a word. already: the host is there or beyond already."""

    value: str
    number: float = math.nan
    already: bool = False


def propose(card: Card, present: Present | None, evidence: Sequence[Evidence], host: HostInfo) -> Proposal | None:
    """The proposed value within the card's range; None where it cannot be computed from what is known.

    present: None where the value could not be read.
    """
    how = card.propose
    if card.when.limited and present and math.isinf(present.number):
        return None
    if how.calculator == "text":
        return Proposal(how.text)
    if how.calculator == "choose":
        return _choose(how.options, present)
    if how.calculator == "set":
        return _set(how.guest if host.virtual and how.guest != "" else how.value, card, present)
    target = _target(card, present, evidence)
    if math.isnan(target):
        return None
    number = clamp(target, card.range, host)
    return Proposal(show_number(number, card.range.unit), number, _already(card, number, present))


def _target(card: Card, present: Present | None, evidence: Sequence[Evidence]) -> float:
    """The value asked for, before the range is applied; NaN where unknown."""
    how = card.propose
    if how.calculator in ("at_least", "at_most"):
        return float(how.value)
    now = present.number if present else math.nan
    if how.calculator == "multiply":
        return now * how.factor
    values = [evidence_value(name, evidence) for name in how.series]
    return math.fsum(values) * how.factor  # NaN where one is missing: a part of the sum would be a wrong proposal


def evidence_value(name: str, evidence: Sequence[Evidence]) -> float:
    """Value of the first evidence that rests on the series `name`; NaN where there is none."""
    return next((e.value for e in evidence if series_name(e) == name and not math.isnan(e.value)), math.nan)


def series_name(evidence: Evidence) -> str:
    """Name of the series without its labels; "" for events and facts."""
    return evidence.series_key.split("{", 1)[0]


def _set(value: float | str, card: Card, present: Present | None) -> Proposal:
    if isinstance(value, float):
        return Proposal(
            show_number(value, card.range.unit), value, already=present is not None and present.number == value
        )
    return Proposal(value, already=present is not None and value == present.word)


def _choose(options: Sequence[str], present: Present | None) -> Proposal | None:
    """The first option that the kernel offers here."""
    if present is None or not present.options:
        return None
    best = next((o for o in options if o in present.options), None)
    return Proposal(best, already=best == present.word) if best else None


def clamp(value: float, limits: Range, host: HostInfo) -> float:
    """`value` inside the card's range and the host's size, on the card's step."""
    top = limits.max
    if limits.max_cpus < math.inf and host.cpus > 0:
        top = min(top, limits.max_cpus * host.cpus)
    if limits.max_memory < math.inf and host.memory_bytes > 0:
        top = min(top, limits.max_memory * host.memory_bytes)
    if limits.step > 0 and math.isfinite(value):
        value = math.ceil(value / limits.step) * limits.step
    return max(limits.min, min(value, top))


def _already(card: Card, number: float, present: Present | None) -> bool:
    if present is None or math.isnan(present.number):
        return False
    how = card.propose
    downwards = how.down or how.calculator == "at_most" or (how.calculator == "multiply" and how.factor < 1)
    return present.number <= number if downwards else present.number >= number


def show_number(number: float, unit: str) -> str:
    """As a person writes it: whole numbers bare, bytes in MiB, cores with two digits; "max" for no limit."""
    if math.isinf(number):
        return "max"
    if unit == "bytes":
        return f"{number / 2**20:.0f} MiB"
    if unit == "cores":
        return f"{number:.2f} cores"
    return f"{number:.0f}" if number == round(number) else f"{number:g}"
