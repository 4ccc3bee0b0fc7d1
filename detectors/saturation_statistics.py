"""Two-sample tests on residuals: Kolmogorov-Smirnov (has the distribution changed?), Mann-Whitney (has it grown?).

Large-sample approximations, which agree with the exact ones from about 20 values on either side.

References
----------
Stephens, M. A. (1970). J. R. Statist. Soc. B 32, 115-122 (the factor for small samples in `smirnov`).
Mann, H. B., Whitney, D. R. (1947). Ann. Math. Statist. 18(1), 50-60. https://doi.org/10.1214/aoms/1177730491
"""

from math import erfc, exp, sqrt

import numpy as np
from numpy.typing import ArrayLike

from etio.core.frame import Floats


def smirnov(one: ArrayLike, other: ArrayLike) -> tuple[float, float]:
    """(largest distance of the two empirical distributions, p-value), two-sided. (0, 1) when either is empty."""
    a, b = np.sort(np.asarray(one, float)), np.sort(np.asarray(other, float))
    if not len(a) or not len(b):
        return 0.0, 1.0
    every = np.concatenate([a, b])
    gap = np.searchsorted(a, every, side="right") / len(a) - np.searchsorted(b, every, side="right") / len(b)
    distance = float(np.abs(gap).max())
    root = sqrt(len(a) * len(b) / (len(a) + len(b)))
    x = (root + 0.12 + 0.11 / root) * distance
    if x < 0.2:
        return distance, 1.0
    p = 2.0 * sum((-1) ** (k - 1) * exp(-2.0 * (k * x) ** 2) for k in range(1, 101))
    return distance, min(1.0, max(0.0, p))


def mann_whitney(recent: ArrayLike, before: ArrayLike) -> float:
    """One-sided p-value of "recent values tend to be larger than those before"; ties corrected; 1 when either is
    empty or all values are equal."""
    a, b = np.asarray(recent, float), np.asarray(before, float)
    n, m = len(a), len(b)
    if not n or not m:
        return 1.0
    rank, ties = _ranks(np.concatenate([a, b]))
    u = float(rank[:n].sum()) - n * (n + 1) / 2.0
    total = n + m
    variance = n * m / 12.0 * (total + 1 - ties / (total * (total - 1)))
    if variance <= 0.0:
        return 1.0
    return 0.5 * erfc((u - n * m / 2.0 - 0.5) / sqrt(2.0 * variance))


def _ranks(values: Floats) -> tuple[Floats, float]:
    """Ranks from 1, equal values sharing the mean of theirs; and the sum of t^3 - t over groups of equal values."""
    inverse, count = np.unique(values, return_inverse=True, return_counts=True)[1:]
    upper = np.cumsum(count)
    return (upper - 0.5 * (count - 1))[inverse.reshape(-1)], float(np.sum(count.astype(float) ** 3 - count))
