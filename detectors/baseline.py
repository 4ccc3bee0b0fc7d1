"""What is normal for each series: an exponentially weighted, robust location and spread at several time scales.

References
----------
Huber, P. J. (1964). Robust estimation of a location parameter. Annals of Mathematical Statistics 35(1), 73-101.
    https://doi.org/10.1214/aoms/1177703732 (the bounded influence of one sample on location and spread).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detectors.columns import Bools, Columns
from etio.core.frame import Floats

CLIP = 3.0
"""A sample counts as if it lay at most this many spreads away: it cannot teach itself at once."""
ABS_TO_SIGMA = 1.2574
"""1 / E[min(|Z|, 3)] for a standard normal Z: makes the clipped mean absolute deviation a standard deviation."""


@dataclass(frozen=True, slots=True)
class Warmup:
    """Samples before the first score, and before the band has its final width (it starts twice as wide)."""

    first: int = 60
    settled: int = 300


class Baseline:
    """Location and spread of v views of n series, each at k scales (in samples of that series, NaN not counted).

    Until a scale has seen its length it is the plain mean of all samples, so all scales are usable from the
    warm-up on. A lasting change of 100 spreads is taken for normal after about 1.7 times the scale.

    >>> one = Baseline((300.0,), views=1, warmup=Warmup(5, 5))
    >>> one.columns.grow(1)
    >>> for x in (10.0, 11.0, 9.0, 10.0, 11.0, 9.0):
    ...     z = one.step(np.array([[x]]), np.array([0.5]))
    >>> float(one.step(np.array([[30.0]]), np.array([0.5]))[0, 0, 0]) > 10
    True
    """

    def __init__(self, scales: Sequence[float], views: int, warmup: Warmup) -> None:
        k = len(scales)
        self.columns = Columns(
            count=np.zeros((views, 1)), middle=np.zeros((k, views, 1)), spread=np.zeros((k, views, 1))
        )
        self._least_rate = 1.0 / np.asarray(scales, dtype=np.float64)[:, None, None]
        self._warmup = warmup

    @property
    def ready(self) -> Bools:
        """bool[v, n]: past the warm-up."""
        return np.asarray(self.columns["count"] >= self._warmup.first)

    def wide(self) -> Floats:
        """float64[v, n]: factor on the spread, 2 after the warm-up falling to 1 when settled."""
        span = max(self._warmup.settled - self._warmup.first, 1)
        return np.asarray(1.0 + np.clip((self._warmup.settled - self.columns["count"]) / span, 0.0, 1.0))

    def step(self, x: Floats, floor: Floats, learn: bool = True) -> Floats:
        """Signed distance in spreads, float64[k, v, n], against what was learned before; then learns.

        x: float64[v, n], NaN = no value (gives NaN, teaches nothing). floor: float64[n], least spread.
        """
        count, middle, spread = (self.columns[name] for name in ("count", "middle", "spread"))
        away = x - middle
        scale = np.maximum(spread, floor)
        z = away / (scale * self.wide())
        z[:, ~self.ready] = np.nan
        if learn:
            seen = np.isfinite(x)
            rate = np.maximum(1.0 / (count + 1.0), self._least_rate) * seen
            np.copyto(away, 0.0, where=~seen)
            scale *= np.where(self.ready, CLIP, np.inf)
            np.clip(away, -scale, scale, out=away)
            middle += rate * away
            np.abs(away, out=away)
            away *= ABS_TO_SIGMA * (count > 0)
            away -= spread
            spread += rate * away
            count += seen
        return np.asarray(z)
