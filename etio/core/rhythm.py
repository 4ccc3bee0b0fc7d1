"""How long one iteration takes, in operations: from a sequence of operation codes that repeats.

References
----------
Wu et al. (2025). Greyhound: hunting fail-slows in hybrid-parallel training at scale. ATC'25. arXiv 2410.12588
    (autocorrelation of operation codes, least height 0.7).
"""

from collections.abc import Hashable, Sequence

import numpy as np

from etio.core.frame import Floats

HEIGHT = 0.7
"""Least autocorrelation of a period."""
NEAR_BEST = 0.8
"""A shorter period is preferred to its multiples when it is at least this near to the best: a period of 12.5
samples is seen better at lag 25 than at 12 or 13."""
TIMES_SEEN = 3
"""A period has to be seen so often."""
MOST_LAG = 4096


def autocorrelation(x: Floats) -> Floats:
    """Correlation of x[n] with itself at each lag from 0 to n // 3, each over the overlapping part; 0 for no motion.

    Missing values count as the mean.
    """
    known = np.isfinite(x)
    n = len(x)
    if known.sum() < 2 * TIMES_SEEN:
        return np.zeros(1)
    y = np.where(known, x - x[known].mean(), 0.0)
    power = float(y @ y)
    if power <= 1e-12 * max(float(np.abs(x[known]).max()) ** 2 * n, 1e-300):
        return np.zeros(1)
    size = 1 << (2 * n - 1).bit_length()
    spectrum = np.fft.rfft(y, size)
    lags = min(n // TIMES_SEEN, MOST_LAG) + 1
    raw = np.fft.irfft(spectrum * np.conj(spectrum), size)[:lags]
    return np.asarray(raw / power * n / (n - np.arange(lags)))


def period_of_codes(codes: Sequence[Hashable]) -> int | None:
    """Operations per iteration, or None where no sequence repeats at least three times.

    Each code counts the same, however often it occurs: the inner loop over micro-batches repeats as well, but the
    optimiser and the collectives at the end of a step do not repeat with it.

    >>> period_of_codes(("forward backward " * 8 + "reduce step ").split() * 5)
    18
    """
    names, code, count = np.unique(np.array([str(c) for c in codes]), return_inverse=True, return_counts=True)
    often = [i for i in range(len(names)) if 2 <= count[i] < len(codes)]
    if not often:
        return len(names) if len(names) == 1 and len(codes) >= TIMES_SEEN else None
    mean = np.mean([autocorrelation((code == i).astype(np.float64)) for i in often], axis=0)
    return first_peak(mean)


def first_peak(curve: Floats) -> int | None:
    """The shortest lag that is a local maximum and nearly as high as the highest of them."""
    if len(curve) < 3:
        return None
    right = np.append(curve[2:], -np.inf)
    peaks = 1 + np.flatnonzero((curve[1:] > curve[:-1]) & (curve[1:] >= right))
    peaks = peaks[curve[peaks] >= HEIGHT]
    if not len(peaks):
        return None
    return int(peaks[curve[peaks] >= NEAR_BEST * curve[peaks].max()][0])


def marker_of_codes(codes: Sequence[Hashable]) -> tuple[Hashable, int] | None:
    """(the code to count iterations by, how often it occurs in each), or None without a period: the rarest of an
    iteration, so that a lost or added operation elsewhere does no harm.

    >>> marker_of_codes(list("abbabbabbabb"))
    ('a', 1)
    """
    period = period_of_codes(codes)
    if period is None:
        return None
    texts = np.array([str(c) for c in codes])
    _, first, count = np.unique(texts, return_index=True, return_counts=True)
    iterations = len(codes) / period
    enough = np.flatnonzero(count >= max(TIMES_SEEN, np.floor(iterations) - 1))
    rarest = enough[np.argmin(count[enough])]
    return codes[first[rarest]], max(round(float(count[rarest]) / iterations), 1)
