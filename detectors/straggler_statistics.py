"""Parts of the straggler detector: medians of the others, robust spread over a window, a one-sided CUSUM.

References
----------
Page, E. S. (1954). Continuous inspection schemes. Biometrika 41, 100-115. https://doi.org/10.1093/biomet/41.1-2.100
Lorden, G. (1971). Procedures for reacting to a change in distribution. Annals of Mathematical Statistics 42(6),
    1897-1908. https://doi.org/10.1214/aoms/1177693055 (at least exp(limit) steps between false alarms).
"""

from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from detectors.columns import Array, Bools, Columns, Ints
from etio.core.frame import Floats

MAD_TO_SIGMA = 1.4826
P90_TO_SIGMA = 1.645
RECENT = 5
"""Steps whose median has to agree before anybody is blamed: three of five, so three slow steps are the least that
can alarm and no two outliers do."""
SMOOTH = 3
"""Steps whose median is the evidence, so that noise does not delay what three steps in a row say clearly. It counts
at most twice the median of the five: two outliers in a row and a third ordinary step are no three slow ones."""


class Roster(Columns):
    """Columns of members that come and go."""

    def keep(self, mask: Bools) -> None:
        """Drops the columns where mask (bool[n]) is False."""
        self._arrays = {name: array[..., mask] for name, array in self._arrays.items()}
        self.n = int(mask.sum())

    def replace(self, saved: Mapping[str, Array], n: int) -> None:
        """Becomes the snapshot of n columns. Raises Broken where it is none."""
        self.check(saved, n)
        self.keep(np.zeros(self.n, dtype=bool))
        self.grow(n)
        self.take(saved, range(n), range(n))

    def turn(self, order: Ints) -> None:
        """Puts the columns in another order: the new i-th is the old order[i]-th."""
        self._arrays = {name: array[..., order] for name, array in self._arrays.items()}


def groups_of(labels: Sequence[Hashable]) -> Ints:
    """Positions of the members of each group, intp[groups, widest], -1 for padding; None belongs to no group.

    >>> groups_of(["a", "b", None, "a"]).tolist()
    [[0, 3], [1, -1]]
    """
    found: dict[Hashable, list[int]] = {}
    for i, label in enumerate(labels):
        if label is not None:
            found.setdefault(label, []).append(i)
    widest = max((len(g) for g in found.values()), default=0)
    rows = [g + [-1] * (widest - len(g)) for g in found.values()]
    return np.array(rows, dtype=np.intp).reshape(len(rows), widest)


def gather(x: Floats, groups: Ints) -> Floats:
    """The values x[..., n] of each group, float64[..., groups, widest]; NaN for padding."""
    if groups.size == 0:
        return np.empty((*x.shape[:-1], *groups.shape))
    return np.where(groups >= 0, x[..., groups], np.nan)


def median(x: Array, axis: int = -1, low: bool = False) -> Floats:
    """Median without NaN along an axis, NaN where nothing is left; low: the lower of the two middle values.

    x: float64 of any shape; the answer has that shape without the axis.
    """
    ordered = np.moveaxis(np.sort(np.asarray(x, dtype=np.float64), axis=axis), axis, -1)
    count = np.isfinite(ordered).sum(axis=-1)
    if ordered.shape[-1] == 0:
        return np.full(count.shape, np.nan)
    first = np.maximum((count - 1) // 2, 0)
    second = first if low else np.minimum(count // 2, ordered.shape[-1] - 1)
    pick = np.take_along_axis(ordered, np.stack([first, second], axis=-1), axis=-1).mean(axis=-1)
    return np.where(count > 0, pick, np.nan)


def median_of_others(x: Floats, groups: Ints) -> Floats:
    """For each member the median of the other members of its group, of the shape of x[..., n]; NaN without any.

    A reference that leaves the member itself out is not pulled by it: of two peers each is held against the other.

    >>> median_of_others(np.array([1.0, 2.0, 4.0, np.nan]), groups_of("aaaa")).tolist()
    [3.0, 2.5, 1.5, nan]
    """
    out = np.full(x.shape, np.nan)
    if groups.size == 0:
        return out
    table = gather(x, groups)
    order = np.argsort(table, axis=-1)
    ordered = np.take_along_axis(table, order, axis=-1)
    place = np.argsort(order, axis=-1)
    left = np.isfinite(table).sum(axis=-1, keepdims=True) - 1
    middle = np.zeros(table.shape)
    for k in ((left - 1) // 2, left // 2):
        at = np.clip(k + (k >= place), 0, table.shape[-1] - 1)
        middle += np.take_along_axis(ordered, at, axis=-1) / 2.0
    middle[~np.isfinite(table) | (left < 1)] = np.nan
    real = groups >= 0
    out[..., groups[real]] = middle[..., real]
    return out


def median_of_group(x: Floats, groups: Ints) -> Floats:
    """For each member the median of its group with itself, of the shape of x[..., n]; NaN where it is alone."""
    out = np.full(x.shape, np.nan)
    if groups.size:
        table = gather(x, groups)
        several = np.isfinite(table).sum(axis=-1) > 1
        middle = np.broadcast_to(np.where(several, median(table), np.nan)[..., None], table.shape)
        real = groups >= 0
        out[..., groups[real]] = middle[..., real]
    return out


def spread(window: Floats, least: int = RECENT) -> Floats:
    """Robust sigma of each column of a window[steps, n], float64[n]; NaN below `least` values.

    The larger of two, equal for normal noise: from the median of the absolute deviations, which is too small for
    few values by about 1 - 0.8 / count on the average (Croux and Rousseeuw 1992,
    https://doi.org/10.1007/978-3-662-26811-7_58), and from their 90th percentile, for noise with a heavier tail.
    """
    away = np.sort(np.abs(window - median(window, axis=0)), axis=0)
    count = np.isfinite(window).sum(axis=0)
    if not window.size:
        return np.full(window.shape[1], np.nan)
    narrow = MAD_TO_SIGMA * median(away, axis=0) * count / np.maximum(count - 0.8, 1.0)
    place = np.maximum(np.ceil(0.9 * count).astype(np.intp) - 1, 0)
    wide = np.take_along_axis(away, place[None], axis=0)[0] / P90_TO_SIGMA
    return np.where(count >= least, np.fmax(narrow, wide), np.nan)


def between(offset: Floats) -> float:
    """Robust spread between members that should be equal; 0 where nothing is known."""
    return float(np.nan_to_num(MAD_TO_SIGMA * median(np.abs(offset))))


class Cusum:
    """Log-likelihood ratio of "shifted by 2 * allow" against "not shifted", summed and never below 0, per member.

    On at the limit, if the recent values agree; off when the sum is back at 0. Between the two nothing is
    forgotten, so what lasts stays on. A missing value changes nothing.
    """

    def __init__(self) -> None:
        nan = np.full((RECENT, 1), np.nan)
        self.columns = Roster(sum=np.zeros(1), on=np.zeros(1, dtype=bool), run=np.zeros(1, dtype=np.int64),
                              recent=nan, raw=nan)

    @property
    def on(self) -> Bools:
        """Who is shifted, bool[n]."""
        return np.asarray(self.columns["on"])

    @property
    def size(self) -> Floats:
        """Median of the recent values, float64[n]."""
        return median(self.columns["recent"], axis=0)

    def since(self, i: int, now: int) -> int:
        """The step at which the i-th began to be shifted, when `now` is the last; evidence begins at its third step."""
        return max(now - int(self.columns["run"][i]) + 2 - SMOOTH, 0)

    def step(self, x: Floats, raw: Floats, sigma: Floats, allow: Floats, limit: float) -> Bools:
        """Takes one value of each member in.

        x: the evidence; raw: the same before corrections by what others did, which must show at least a third of it, so
        that nobody is blamed because somebody else became faster; sigma: noise of x; allow: half of
        the shift looked for; limit: of the sum. Returns who is on, bool[n].
        """
        c, known = self.columns, np.isfinite(x)
        for name, value in (("recent", x), ("raw", raw)):
            older = c[name]
            c[name] = np.where(known, np.concatenate([older[1:], value[None]]), older)
        steady = median(c["recent"], axis=0)
        evidence = np.minimum(median(c["recent"][-SMOOTH:], axis=0), np.maximum(2.0 * steady, steady))
        known &= np.isfinite(c["recent"]).sum(axis=0) >= SMOOTH
        gain = np.where(known, 2.0 * allow / sigma**2 * (evidence - allow), 0.0)
        total = np.clip(c["sum"] + np.clip(gain, -limit / 2.0, limit), 0.0, limit)
        agreed = (steady >= allow) & (median(c["raw"], axis=0) >= steady / 3.0)
        c["run"] = np.where(total > 0, c["run"] + known, 0)
        c["sum"] = total
        c["on"] = ((total >= limit) & agreed | c["on"]) & (total > 0)
        return self.on
