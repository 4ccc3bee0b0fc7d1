"""Mean and spread of many streams at several time scales, exponentially weighted, with a bound on any one sample.

Unlike `detectors.baseline` (Huber weights, made to stay flagged) this estimate follows a change of regime: what jumps
about now raises its own spread, so that one fault does not alarm for hours. That is what event detection at a
minute's pace wants (measured in docs/detectors.md).

References
----------
Finch, T. (2009). Incremental calculation of weighted mean and variance. University of Cambridge.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detectors.columns import part
from etio.core.errors import Broken
from etio.core.frame import Floats

CLIP = 20.0
"""A sample counts as if it lay at most this many spreads away: one absurd value cannot blind a stream for days."""
FIRST = 30
"""Samples before the first distance."""


class Moments:
    """State: mean and variance float64[k, *shape] at k scales, count of samples float64[*shape].

    >>> one = Moments((1,), (100.0,))
    >>> for x in np.random.default_rng(1).normal(5.0, 2.0, 2000):
    ...     z = one.step(np.array([x]), 0.01)
    >>> bool(abs(one.middle[0, 0] - 5) < 1) and bool(1.5 < one.power[0, 0] ** 0.5 < 2.5)
    True
    """

    def __init__(self, shape: tuple[int, ...], scales: Sequence[float]) -> None:
        """scales: in samples of a stream; until a scale has seen its length it is the plain mean of all samples."""
        self.middle = np.zeros((len(scales), *shape))
        self.power = np.zeros((len(scales), *shape))
        self.count = np.zeros(shape)
        self._least_rate = 1.0 / np.asarray(scales, dtype=np.float64).reshape(-1, *(1,) * len(shape))

    def step(self, x: Floats, floor: Floats | float) -> Floats:
        """Signed distance of x[*shape] in spreads, float64[k, *shape], against what was learned before; then learns.

        floor: least spread, broadcast against shape. NaN gives NaN and teaches nothing; so does the warm-up.
        """
        away = x - self.middle
        spread = np.sqrt(self.power + np.square(floor))
        z = away / spread
        seen = np.isfinite(x)
        ready = self.count >= FIRST
        z[:, ~ready] = np.nan
        rate = np.maximum(1.0 / (self.count + 1.0), self._least_rate) * seen
        spread *= np.where(ready, CLIP, np.inf)
        np.clip(away, -spread, spread, out=away)
        away[:, ~seen] = 0.0
        step = rate * away
        self.middle += step
        self.power += step * away
        self.power *= 1.0 - rate
        self.count += seen
        return z

    def clear(self, at: tuple[Any, ...]) -> None:
        """Makes the streams at this index of shape as new."""
        self.middle[(slice(None), *at)] = self.power[(slice(None), *at)] = self.count[at] = 0.0

    def snapshot(self) -> dict[str, Any]:
        """Copies of the state."""
        return {"middle": self.middle.copy(), "power": self.power.copy(), "count": self.count.copy()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes a snapshot back. Raises Broken where it does not fit."""
        for name in ("middle", "power", "count"):
            setattr(self, name, array(state, name, getattr(self, name).shape))


def array(state: Mapping[str, Any], name: str, shape: tuple[int, ...], gaps: bool = False) -> Floats:
    """A copy of a float64 array of this shape out of a snapshot; gaps: NaN may stand in it. Else raises Broken."""
    value = part(state, name, np.ndarray)
    if value.shape != shape or value.dtype != np.float64 or not (gaps or np.isfinite(value).all()):
        raise Broken(f"detector state: {name}: expected float64 of shape {shape}")
    return np.array(value)
