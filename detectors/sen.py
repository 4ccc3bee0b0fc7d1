"""A robust slope with an interval: the median of the slopes of all pairs, after Theil and Sen.

Written with numpy because it runs in the daemon, where scipy and statsmodels are not loaded; the tests hold it
against scipy.stats.theilslopes.

References
----------
Sen, P. K. (1968). Estimates of the regression coefficient based on Kendall's tau. JASA 63(324), 1379-1389.
    https://doi.org/10.1080/01621459.1968.10480934
Yue, S., Wang, C. (2004). The Mann-Kendall test modified by effective sample size. Water Resources Management 18,
    201-218. https://doi.org/10.1023/B:WARM.0000043140.61082.60 (samples that resemble their neighbours count less).
"""

from dataclasses import dataclass

import numpy as np

from etio.core.frame import Floats

Z90 = 1.645
LARGEST_ECHO = 0.8
"""Lag-one correlation of what the line leaves over that is believed at most: 9 times the variance."""


@dataclass(frozen=True, slots=True)
class Slope:
    """float64[n] each: slope per step and its 90 % interval, tau (share of rising pairs less that of falling ones,
    -1..1), newest (level of the line at the newest step), seen (number of values). NaN where fewer than four."""

    slope: Floats
    low: Floats
    high: Floats
    tau: Floats
    newest: Floats
    seen: Floats


def sen(y: Floats) -> Slope:
    """The line through each column of y: float64[k, n], one row a step, NaN = no value.

    >>> one = sen(np.array([[0.0], [1.0], [2.1], [2.9], [np.nan], [5.0]]))
    >>> round(float(one.slope[0]), 2), float(one.tau[0]), bool(one.low[0] <= 1.0 <= one.high[0])
    (1.0, 1.0, True)
    """
    first, second = np.triu_indices(len(y), 1)
    slopes = (y[second] - y[first]) / (second - first)[:, None]
    ordered = np.sort(slopes, axis=0)
    pairs = np.isfinite(slopes).sum(axis=0)
    seen = np.isfinite(y).sum(axis=0).astype(np.float64)
    enough = seen >= 4
    with np.errstate(invalid="ignore", divide="ignore"):
        middle = (_pick(ordered, (pairs - 1) // 2) + _pick(ordered, pairs // 2)) / 2
        tau = ((slopes > 0).sum(axis=0) - (slopes < 0).sum(axis=0)) / pairs
        rest, newest = _rest(y, middle)
        reach = Z90 * np.sqrt(seen * (seen - 1) * (2 * seen + 5) / 18 * _echo(rest))
    low = _pick(ordered, np.rint((pairs - reach) / 2 - 1).astype(np.intp))
    high = _pick(ordered, np.minimum(np.rint((pairs + reach) / 2).astype(np.intp), pairs - 1))
    middle, low, high, tau, newest = (np.where(enough, a, np.nan) for a in (middle, low, high, tau, newest))
    return Slope(middle, low, high, tau, newest, seen)


def _pick(ordered: Floats, at: np.ndarray[tuple[int], np.dtype[np.intp]]) -> Floats:
    """The at-th smallest of each column, float64[n]."""
    return np.asarray(ordered[np.clip(at, 0, len(ordered) - 1), np.arange(ordered.shape[1])])


def _rest(y: Floats, slope: Floats) -> tuple[Floats, Floats]:
    """(what the line leaves over, float64[k, n]; its level at the newest row, float64[n])."""
    away = np.arange(len(y))[:, None] - (len(y) - 1)
    flat = y - slope * away
    known = np.isfinite(flat)
    count = known.sum(axis=0)
    ordered = np.sort(flat, axis=0)
    level = (_pick(ordered, (count - 1) // 2) + _pick(ordered, count // 2)) / 2
    return np.where(known, flat - level, 0.0), level


def _echo(rest: Floats) -> Floats:
    """How many times the variance of the ranks grows because neighbours resemble each other, float64[n], >= 1."""
    power = np.square(rest).sum(axis=0)
    lag = np.divide((rest[1:] * rest[:-1]).sum(axis=0), power, out=np.zeros_like(power), where=power > 0)
    lag = np.clip(lag, 0.0, LARGEST_ECHO)
    return np.asarray((1 + lag) / (1 - lag))
