"""Whether the use of a GPU comes and goes in a steady rhythm, as that of a job does that waits for each batch.

A server that is asked now and then works in pieces as well, but in no rhythm, and nobody waits for it.
"""

import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from collector.gpu.session import Told
from etio.core.rhythm import autocorrelation, first_peak

SAMPLES, EVERY = 60, 10
"""Readings looked at, and from one look to the next."""
SWING = 0.2
"""Least standard deviation of the use."""
USE, SERIES = "gpu_utilization_ratio", "gpu_utilization_rhythm_ratio"


@dataclass(slots=True)
class _Uses:
    kept: deque[float] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    since: int = 0
    mean: float = math.nan


class Swings:
    """One short memory for each GPU: 500 bytes."""

    def __init__(self) -> None:
        self._uses: dict[str, _Uses] = {}

    def take(self, told: Told) -> float:
        """Mean use over the last minute where there is a rhythm in it, else NaN."""
        use = told.values.get(USE, math.nan)
        one = self._uses.setdefault(told.uuid, _Uses())
        one.kept.append(use)
        one.since += 1
        if one.since >= EVERY and len(one.kept) == SAMPLES:
            one.since, one.mean = 0, _rhythmic(one.kept)
        return math.nan if math.isnan(use) else one.mean


def _rhythmic(kept: deque[float]) -> float:
    """Mean of the use; NaN where it is steady, or comes and goes as it likes."""
    x = np.array(kept)
    if not np.isfinite(x).all() or x.std() < SWING or first_peak(autocorrelation(x)) is None:
        return math.nan
    return float(x.mean())
