"""How long one iteration of a job takes, when the job does not say: from its repeating sequence of operations or from
the rhythm of its activity; and whether its iterations became slower, told only after verification.

References
----------
Wu et al. (2025). Greyhound: hunting fail-slows in hybrid-parallel training at scale. ATC'25. arXiv 2410.12588
    (autocorrelation of operation codes, least height 0.7; a change counts from 10 % and 10 iterations on).
"""

from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from detectors.straggler_statistics import MAD_TO_SIGMA
from etio.core.frame import Floats
from etio.core.rhythm import autocorrelation, first_peak, marker_of_codes, period_of_codes

__all__ = ["Change", "HistoryConfig", "SelfHistory", "iteration_seconds", "period_of_activity", "period_of_codes"]


def period_of_activity(activity: Floats) -> float | None:
    """Samples per iteration of an evenly sampled activity (utilisation, power, bytes sent), between samples by a
    parabola; None where it has no rhythm that is seen three times.

    >>> round(period_of_activity(np.sin(np.arange(200) * 2 * np.pi / 12.5)), 1)
    12.5
    """
    curve = autocorrelation(np.asarray(activity, dtype=np.float64))
    lag = first_peak(curve)
    if lag is None or lag + 1 >= len(curve):
        return None if lag is None else float(lag)
    before, at, after = curve[lag - 1 : lag + 2]
    bend = before - 2.0 * at + after
    return float(lag + (0.5 * (before - after) / bend if bend < 0 else 0.0))


def iteration_seconds(codes: Sequence[Hashable], start_s: Floats) -> Floats:
    """Time from each occurrence of the rarest code of an iteration to its next, float64[iterations]; empty without a
    period. start_s: float64[len(codes)], ascending. A lost or added operation elsewhere does no harm.

    >>> iteration_seconds(list("abbabbabbabb"), np.arange(12.0)).tolist()
    [3.0, 3.0, 3.0]
    """
    marker = marker_of_codes(codes)
    if marker is None:
        return np.empty(0)
    code, per_iteration = marker
    at = np.asarray(start_s, dtype=np.float64)[[c == code for c in codes]][::per_iteration]
    return np.diff(at)


@dataclass(frozen=True, slots=True)
class Change:
    """A verified change of the iteration time: number of the first changed iteration, seconds before and after."""

    first: int
    before_s: float
    after_s: float


@dataclass(frozen=True, slots=True)
class HistoryConfig:
    """size: least relative change; length: iterations it must last; known: iterations of the frozen baseline."""

    size: float = 0.10
    length: int = 10
    known: int = 20

    def __post_init__(self) -> None:
        if self.size <= 0 or self.length < 3 or self.known < self.length:
            raise ValueError("size must be positive, length >= 3, known >= length")


class SelfHistory:
    """The iteration times of one job against its own first ones, for want of any peer.

    A slowdown that lasts stays told: the baseline is frozen. Only a job that became faster for good gets a new one.

    >>> history = SelfHistory(HistoryConfig())
    >>> for i in range(60):
    ...     now = history.step(1.0 if i < 40 else 1.2)
    >>> now
    Change(first=40, before_s=1.0, after_s=1.2)
    """

    def __init__(self, config: HistoryConfig) -> None:
        self._config = config
        self._baseline: list[float] = []
        self._recent: deque[float] = deque(maxlen=config.length)
        self._count = 0
        self._change: Change | None = None

    def step(self, seconds: float) -> Change | None:
        """Takes one iteration time in; tells the slowdown that lasts now, or None. No number, no change."""
        if not np.isfinite(seconds) or seconds <= 0:
            return self._change
        self._count += 1
        self._recent.append(float(np.log(seconds)))
        if len(self._baseline) < self._config.known:
            self._baseline.append(self._recent[-1])
            return None
        self._judge()
        return self._change

    def _judge(self) -> None:
        before, recent = float(np.median(self._baseline)), np.array(self._recent)
        noise = MAD_TO_SIGMA * float(np.median(np.abs(np.array(self._baseline) - before)))
        size = max(float(np.log1p(self._config.size)), 2.0 * noise)
        after = float(np.median(recent))
        if after - before >= size and (recent - before >= size / 2.0).all():
            first = self._count - len(recent) if self._change is None else self._change.first
            self._change = Change(first, float(np.exp(before)), float(np.exp(after)))
        elif after - before < size / 2.0:
            self._change = None
        if before - after >= size and (before - recent >= size / 2.0).all():
            self._baseline, self._change = [], None
