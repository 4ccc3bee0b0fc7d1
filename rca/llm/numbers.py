"""Numbers of evidence as they are shown, and back: does a number in a sentence stand in the evidence?"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from etio.core.evidence import Evidence

_FACTORS: dict[str, tuple[str, float]] = {
    "%": ("ratio", 0.01), "percent": ("ratio", 0.01),
    "ns": ("seconds", 1e-9), "us": ("seconds", 1e-6), "ms": ("seconds", 1e-3), "s": ("seconds", 1.0),
    "second": ("seconds", 1.0), "seconds": ("seconds", 1.0), "minute": ("seconds", 60.0), "minutes": ("seconds", 60.0),
    "milliseconds": ("seconds", 1e-3), "microseconds": ("seconds", 1e-6),
    "b": ("bytes", 1.0), "bytes": ("bytes", 1.0), "kb": ("bytes", 1e3), "mb": ("bytes", 1e6), "gb": ("bytes", 1e9),
    "kib": ("bytes", 2.0**10), "mib": ("bytes", 2.0**20), "gib": ("bytes", 2.0**30), "tib": ("bytes", 2.0**40),
    "hz": ("hertz", 1.0), "mhz": ("hertz", 1e6), "ghz": ("hertz", 1e9), "w": ("watts", 1.0), "watts": ("watts", 1.0),
    "c": ("celsius", 1.0), "celsius": ("celsius", 1.0), "degrees": ("celsius", 1.0),
    "times": ("times", 1.0), "thresholds": ("thresholds", 1.0),
}  # fmt: skip
_NUMBER = re.compile(r"(?<![A-Za-z0-9_.,])([0-9][0-9,]*(?:\.[0-9]+)?)\s?(%|[A-Za-z]+)?")
FLAT = 0.05
"""A change below this share of the larger value is no change."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number in a text: `number` +- `slack` (half of the last digit shown), in base units of `dimension`."""

    text: str
    number: float
    slack: float
    dimension: str


def quantities(text: str) -> Iterator[Quantity]:
    """Every number of a text with its unit; dimension "" where no unit follows.

    >>> [(q.number, q.dimension) for q in quantities("rose to 91 % within 2.5 s")]
    [(0.91, 'ratio'), (2.5, 'seconds')]
    """
    for match in _NUMBER.finditer(text):
        digits = match.group(1).rstrip(",").replace(",", "")
        dimension, factor = _FACTORS.get((match.group(2) or "").lower(), ("", 1.0))
        decimals = len(digits.partition(".")[2])
        number = float(digits) * factor
        slack = 0.5 * 10.0**-decimals * factor + 1e-9 * number  # the second term: rounding of floats
        yield Quantity(match.group(0).strip(), number, slack, dimension)


def dimension_of(unit: str) -> str:
    """Dimension of an evidence's unit; "" for counts.

    >>> dimension_of("bytes/s"), dimension_of("1/s")
    ('bytes', '')
    """
    first = unit.split("/", 1)[0]
    return first if first in ("ratio", "seconds", "bytes", "hertz", "watts", "celsius") else ""


def is_carried(quantity: Quantity, evidence: Sequence[Evidence], since_ns: int) -> bool:
    """Whether the number stands in one of the evidences, within display rounding."""
    return any(
        abs(value - quantity.number) <= quantity.slack
        for dimension, value in _shown(evidence, since_ns)
        if quantity.dimension in (dimension, "") and math.isfinite(value)
    )


def _shown(evidence: Sequence[Evidence], since_ns: int) -> Iterator[tuple[str, float]]:
    """Every number that may be said of these evidences, with its dimension."""
    onsets = sorted(e.onset_ns for e in evidence if e.onset_ns > 0)
    for item in evidence:
        own = dimension_of(item.unit)
        change = abs(item.value - item.baseline)
        yield from ((own, abs(v)) for v in (item.value, item.baseline, change))
        yield from (("thresholds", item.score), ("times", item.score))
        if item.baseline:
            yield "times", item.value / item.baseline
    for onset in onsets:
        yield "seconds", abs(onset - since_ns) / 1e9
    for before, after in pairwise(onsets):
        yield "seconds", (after - before) / 1e9


def show(value: float, unit: str) -> str:
    """A value as the model is given it, in the form it may repeat.

    >>> show(0.912, "ratio"), show(0.0041, "seconds"), show(3 * 2**30, "bytes"), show(float("nan"), "1")
    ('91 %', '4.1 ms', '3.0 GiB', 'unknown')
    """
    if not math.isfinite(value):
        return "unknown"
    base, slash, rest = unit.partition("/")
    if base == "ratio":
        return f"{value * 100:.0f} %"
    for name, factor in _steps(base):
        if abs(value) >= factor:
            return f"{value / factor:.{1 if factor != 1 else 0}f} {name}{slash}{rest}"
    bare = f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    if base == "1" and slash:
        return f"{bare}/{rest}"
    return f"{bare} {unit}" if base in ("hertz", "watts", "celsius", "seconds", "bytes", "cores") else bare


def _steps(base: str) -> tuple[tuple[str, float], ...]:
    if base == "bytes":
        return (("GiB", 2.0**30), ("MiB", 2.0**20), ("KiB", 2.0**10))
    if base == "hertz":
        return (("GHz", 1e9), ("MHz", 1e6))
    if base == "seconds":
        return (("s", 1.0), ("ms", 1e-3), ("us", 1e-6))
    return ()


def direction(item: Evidence) -> int | None:
    """+1 rose, -1 fell, 0 stayed, against the calm time before; None where that is unknown."""
    if not (math.isfinite(item.value) and math.isfinite(item.baseline)):
        return None
    change, size = item.value - item.baseline, max(abs(item.value), abs(item.baseline))
    if size == 0 or abs(change) <= FLAT * size:
        return 0
    return 1 if change > 0 else -1
