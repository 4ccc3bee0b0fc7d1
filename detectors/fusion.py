"""One anomaly score for a group of series, with the series that carry it: level, change and surprise, fused.

Three views of each series, each as a distance from its own past at three time scales (6 hours, 1 day, 5 days):
its level, its change since the last sample, and the error of a vector autoregression over the group. Level and
change see what is unusual for the series alone; the third sees what its neighbours do not explain. Of each part the
mean of the strongest few series counts, smoothed over three samples; the logarithms are averaged, because no cheap
score is best on every host (docs/detectors.md). All groups step together, as arrays.

References
----------
Aggarwal, C. (2013). Outlier ensembles. SIGKDD Explorations 14(2), 49-58. https://doi.org/10.1145/2481244.2481252
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from detectors.columns import part
from detectors.moments import Moments, array
from detectors.threshold import Budget, Threshold
from detectors.var import Var, VarConfig
from etio.core.frame import Floats

HOUR_S = 3600.0
LEVEL_SCALE = -1
"""Which scale of the level standardises the inputs of the autoregression: the longest."""
ERROR_FLOOR = 0.1
"""Least spread of the autoregression's error, in spreads of its series."""
RELATIVE_FLOOR = 0.02
"""Of the usual level, on top of the floor: nobody cares for less."""
TOP = 5
LEAST = 1e-3
LARGEST = 1e6
WEIGHTS = np.array([1 / 3, 2 / 3])
"""Of own distance and surprise in what lasts: the first forgets a lasting shift sooner."""


@dataclass(frozen=True, slots=True)
class FusionConfig:
    """period_s: seconds per sample. scales_h: lengths of the memories. smooth, sustained: samples over which the
    alarm score and the ranking score are averaged. lags, ridge: of the autoregression, which keeps memory_h.
    alarms_per_day, trust: as in detectors.threshold."""

    period_s: float = 10.0
    scales_h: tuple[float, ...] = (6.0, 24.0, 120.0)
    smooth: float = 3.0
    sustained: float = 15.0
    lags: int = 3
    ridge: float = 30.0
    memory_h: float = 120.0
    alarms_per_day: float = 0.4
    trust: float = 2 / 3

    def __post_init__(self) -> None:
        if not self.scales_h or min(self.scales_h) * HOUR_S < 2 * self.period_s or self.period_s <= 0:
            raise ValueError("scales_h must hold at least two samples each, period_s be positive")
        if min(self.smooth, self.sustained) < 1:
            raise ValueError("smooth and sustained are at least one sample")

    @property
    def hour(self) -> int:
        """Samples in an hour, at least 1."""
        return max(1, round(HOUR_S / self.period_s))

    def var(self) -> VarConfig:
        """The autoregression: solved hourly, first after six hours."""
        hour = self.hour
        return VarConfig(self.lags, hour, max(self.memory_h * HOUR_S / self.period_s, hour), self.ridge, 6 * hour)

    def budget(self) -> Budget:
        """The threshold: maxima of two hours over eight days, renewed every six hours."""
        return Budget(self.alarms_per_day, self.trust, block=2 * self.hour)


@dataclass(frozen=True, slots=True)
class Look:
    """What one sample gave. alarm: log of the fused distance, float64[g], NaN while warming up. threshold: that was
    in force for it, same units. sustained: distance that lasts, float64[g], for ranking moments. carriers:
    float64[g, d], what each series has to do with it: mostly its own distance, to the fourth power so that over an
    event its strongest moments speak."""

    alarm: Floats
    threshold: Floats
    sustained: Floats
    carriers: Floats


class Fusion:
    """g groups of at most d series.

    >>> one, rng = Fusion(1, 4, FusionConfig(period_s=60.0)), np.random.default_rng(1)
    >>> for _ in range(900):
    ...     look = one.step(rng.normal(0.3, 0.05, (1, 4)), np.array(0.01))
    >>> calm = look.alarm[0] - look.threshold[0]
    >>> look = one.step(np.array([[0.3, 2.5, 0.3, 0.3]]), np.array(0.01))
    >>> bool(calm < 0 < look.alarm[0] - look.threshold[0]), int(look.carriers[0].argmax())
    (True, 1)
    """

    def __init__(self, groups: int, dims: int, config: FusionConfig) -> None:
        self._config = config
        scales = [h * HOUR_S / config.period_s for h in config.scales_h]
        self._series = Moments((2, groups, dims), scales)
        self._errors = Moments((groups, dims), scales)
        self._var = Var(groups, dims, config.var())
        self._threshold = Threshold(groups, config.budget())
        self._last = np.full((groups, dims), np.nan)
        self._smooth = np.full((2, groups), LEAST)
        self._sustained = np.zeros(groups)

    def step(self, x: Floats, floor: Floats) -> Look:
        """x: float64[g, d], NaN = no value. floor: least spread in the unit of x, broadcast against it."""
        least = floor + RELATIVE_FLOOR * np.abs(self.level)
        z = np.clip(self._series.step(np.stack([x, x - self._last]), least), -LARGEST, LARGEST)
        inputs = np.clip(np.nan_to_num(z[LEVEL_SCALE, 0]), -20.0, 20.0)
        error = np.where(np.isfinite(x), self._var.step(inputs), np.nan)
        self._last = x
        known = np.isfinite(z[0, 0])
        own = np.nan_to_num(np.abs(z)).mean(axis=0).max(axis=0)
        surprise = np.nan_to_num(np.abs(self._errors.step(error, ERROR_FLOOR))).mean(axis=0)
        tops = _strongest(np.stack([own, surprise]), known.sum(axis=1))
        self._smooth += (tops - self._smooth) / self._config.smooth
        alarm = np.log(np.maximum(self._smooth, LEAST)).mean(axis=0)
        self._sustained += (WEIGHTS @ tops - self._sustained) / self._config.sustained
        alarm = np.where(known.any(axis=1), alarm, np.nan)
        return Look(alarm, self._threshold.step(alarm), self._sustained.copy(), (own + surprise / 4.0) ** 4)

    @property
    def level(self) -> Floats:
        """What each series usually is, float64[g, d], by the longest scale; 0 before its first value."""
        return np.asarray(self._series.middle[LEVEL_SCALE, 0])

    def gap(self) -> None:
        """The next sample comes after a gap: its change is no change."""
        self._last[:] = np.nan

    def clear(self, group: int, dim: int) -> None:
        """Forgets one series, so that another can take its place."""
        self._series.clear((slice(None), group, dim))
        self._errors.clear((group, dim))
        self._var.clear(group, dim)
        self._last[group, dim] = np.nan

    def snapshot(self) -> dict[str, Any]:
        """Copies of the state."""
        return {
            "series": self._series.snapshot(), "errors": self._errors.snapshot(), "var": self._var.snapshot(),
            "threshold": self._threshold.snapshot(), "last": self._last.copy(),
            "smooth": self._smooth.copy(), "sustained": self._sustained.copy(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes a snapshot back. Raises Broken where it does not fit; the object is then of no use."""
        for name, own in (("series", self._series), ("errors", self._errors), ("var", self._var),
                          ("threshold", self._threshold)):
            own.restore(part(state, name, dict))
        self._last = array(state, "last", self._last.shape, gaps=True)
        self._smooth = array(state, "smooth", self._smooth.shape)
        self._sustained = array(state, "sustained", self._sustained.shape)


def _strongest(parts: Floats, known: Floats) -> Floats:
    """Mean of the strongest series of each group: a quarter of those known, at most five; float64[p, g].

    parts: float64[p, g, d], known: [g].
    """
    top = min(TOP, parts.shape[2])
    ordered = -np.sort(-np.partition(parts, -top, axis=2)[..., -top:], axis=2)
    take = np.clip(-(-known // 4), 1, top)
    weight = (np.arange(top) < take[:, None]) / take[:, None]
    return np.asarray((ordered * weight).sum(axis=2))
