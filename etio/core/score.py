"""How unusual something is, in units of the alarm threshold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from etio.core.frame import Floats
from etio.core.series import Series


@dataclass(frozen=True, slots=True)
class Scores:
    """One detector's answer to one frame.

    detector: its name.
    series: what the scores speak of. A detector that scores each series hands the frame's own tuple back; one that
        scores groups (a subsystem, a rule, an entity) has series of its own, append-only over its life.
    values: float64[len(series)]; 1.0 = alarm at the configured false-alarm rate; NaN = warming up or no value, never 0.
    notes: position -> the end of a sentence that says why, with its numbers, for scores that are an alarm.
    shown: position -> names of the series that an alarm was made of, where there are several ways to it.
    """

    detector: str
    series: tuple[Series, ...]
    values: Floats
    notes: Mapping[int, str] = field(default_factory=dict)
    shown: Mapping[int, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Band:
    """The range a detector expects now: float64[n] each, NaN where it does not know yet."""

    low: Floats
    middle: Floats
    high: Floats


def overlaid(bands: Sequence[Band]) -> Band | None:
    """One band of several: a later one counts where it knows something; None where there is none.

    >>> one, other = Band(*np.array([[1.0, 1], [2, 2], [3, 3]])), Band(*np.array([[5.0, np.nan], [6, 6], [7, np.nan]]))
    >>> overlaid([one, other]).low, overlaid([one, other]).middle
    (array([5., 1.]), array([6., 2.]))
    """
    if len(bands) < 2:
        return bands[0] if bands else None
    low, middle, high = bands[0].low, bands[0].middle, bands[0].high
    for band in bands[1:]:
        known = np.isfinite(band.low) & np.isfinite(band.high)
        low, middle, high = (np.where(known, new, old) for new, old in
                             ((band.low, low), (band.middle, middle), (band.high, high)))
    return Band(low, middle, high)


@dataclass(frozen=True, slots=True)
class Shift:
    """A verified change point: at t_ns from `before` to `after` (medians, in the unit of the series), `size`
    thresholds."""

    t_ns: int
    before: float
    after: float
    size: float


def unknown(n: int) -> Floats:
    """n scores that say "I do not know": float64[n] of NaN."""
    return np.full(n, np.nan)
