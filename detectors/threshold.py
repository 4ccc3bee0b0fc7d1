"""An alarm threshold that no label has seen: an alarm budget on the recent past, shrunk towards a physical prior.

The score of the last days is kept as one maximum per two hours. The budget picks the level that the wanted number of
these stretches exceeded; alone it would promise every host the same number of alarms, however quiet or stormy it is,
and it trusts a handful of hours. So the logarithm of the threshold lies between that level and a fixed one (3.5
spreads).

References
----------
James, W., Stein, C. (1961). Estimation with quadratic loss. Proc. 4th Berkeley Symposium 1, 361-379 (shrinkage).
Coles, S. (2001). An Introduction to Statistical Modeling of Extreme Values. Springer, ch. 3 (block maxima).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from detectors.columns import part
from detectors.moments import array
from etio.core.frame import Floats


@dataclass(frozen=True, slots=True)
class Budget:
    """alarms_per_day: what the recent past would have given. trust: weight of the past against the prior, 0..1.
    prior: threshold before anything is known, in log spreads. block: samples per maximum; keep: maxima kept; renew:
    maxima between two thresholds."""

    alarms_per_day: float = 0.4
    trust: float = 2 / 3
    prior: float = float(np.log(3.5))
    block: int = 120
    blocks_per_day: float = 12.0
    keep: int = 96
    renew: int = 3

    def __post_init__(self) -> None:
        if min(self.alarms_per_day, self.blocks_per_day) <= 0 or not 0 <= self.trust <= 1:
            raise ValueError("alarms_per_day and blocks_per_day must be positive, trust in 0..1")
        if min(self.block, self.renew) < 1 or self.keep < self.renew:
            raise ValueError("block and renew must be >= 1, keep at least renew")

    def level(self, maxima: Floats) -> Floats:
        """Threshold float64[n] for maxima float64[m, n] (NaN = nothing seen), in log spreads.

        >>> Budget(alarms_per_day=1, trust=0.5, prior=1.0).level(np.arange(48.0)[:, None])
        array([22.])
        """
        known = np.isfinite(maxima).sum(axis=0)
        ordered = np.sort(np.where(np.isfinite(maxima), maxima, -np.inf), axis=0)[::-1]
        over = np.maximum(1, np.rint(self.alarms_per_day * known / self.blocks_per_day)).astype(np.intp)
        level = ordered[np.minimum(over, np.maximum(known - 1, 0)), np.arange(maxima.shape[1])]
        return np.asarray(np.where(known > 0, self.trust * level + (1 - self.trust) * self.prior, self.prior))


class Threshold:
    """Thresholds of n streams that follow them."""

    def __init__(self, n: int, budget: Budget) -> None:
        self._budget = budget
        self._maxima = np.full((budget.keep, n), np.nan)
        self._running = np.full(n, np.nan)
        self._ticks = 0
        self.level = np.full(n, budget.prior)

    def step(self, value: Floats) -> Floats:
        """The threshold that was in force for this value, float64[n]; then learns. NaN teaches nothing.

        What is young knows little of its own tails: until the window is full the threshold is 1 + block / samples
        times as high.
        """
        self._ticks += 1
        young = self._ticks < self._budget.block * self._budget.keep
        level = self.level + (np.log1p(self._budget.block / self._ticks) if young else 0.0)
        self._running = np.fmax(self._running, value)
        blocks, rest = divmod(self._ticks, self._budget.block)
        if not rest:
            self._maxima[(blocks - 1) % self._budget.keep] = self._running
            self._running = np.full_like(self._running, np.nan)
            if blocks % self._budget.renew == 0:
                self.level = self._budget.level(self._maxima)
        return np.asarray(level)

    def snapshot(self) -> dict[str, Any]:
        """Copies of the state."""
        return {"maxima": self._maxima.copy(), "running": self._running.copy(), "level": self.level.copy(),
                "ticks": self._ticks}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes a snapshot back. Raises Broken where it does not fit."""
        self._maxima = array(state, "maxima", self._maxima.shape, gaps=True)
        self._running = array(state, "running", self._running.shape, gaps=True)
        self.level = array(state, "level", self.level.shape)
        self._ticks = part(state, "ticks", int)
