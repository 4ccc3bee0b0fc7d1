"""From raw scores to units of the alarm threshold, by extreme value theory: peaks over threshold, one tail per stream.

The user sets false alarms per day and host, not sigmas. Each stream (a view of a series) gets its own Generalised
Pareto tail, so a bursty series needs a larger deviation than a calm one before it speaks.

Measured on 300 streams of independent noise over their second hour, at 1 false alarm per day and host: none on
Gaussian, autoregressive, Poisson and spiky noise, 3 to 6 moments on Student t (3 and 4 degrees) and log-normal noise:
a tail of 64 peaks cannot be extrapolated to 1 in 10^8 without error. They last one tick, which is why an alert on an
anomaly should ask for a few ticks in a row.

References
----------
Siffer, A., Fouque, P.-A., Termier, A., Largouet, C. (2017). Anomaly detection in streams with extreme value theory.
    KDD'17. https://doi.org/10.1145/3097983.3098144 (SPOT; DSPOT is this on scores relative to a moving baseline).
Hosking, J. R. M., Wallis, J. R. (1987). Parameter and quantile estimation for the generalized Pareto distribution.
    Technometrics 29(3), 339-349. https://doi.org/10.1080/00401706.1987.10488243 (probability-weighted moments).
Ferro, C. A. T., Segers, J. (2003). Inference for clusters of extreme values. JRSS B 65(2), 545-556.
    https://doi.org/10.1111/1467-9868.00401 (why runs of exceedances count as one peak).
"""

from dataclasses import dataclass

import numpy as np

from detectors.columns import Array, Columns
from etio.core.frame import Floats

DAY_S = 86_400.0
SHAPE_PRIOR = 0.1
SHAPE_PRIOR_PEAKS = 16.0
"""The shape is pulled towards a slightly heavy tail with the weight of this many peaks: 64 peaks alone give it
an error of about 0.2, which would move a threshold by a factor of several."""
SHAPE_RANGE = (0.0, 0.8)
SAFETY = 1.0
"""Standard errors of the shape (about 1 / sqrt(peaks)) added to it: among hundreds of streams, those whose tail is
fitted too light by chance would make nearly all false alarms."""
RATE_SCALE = 14_400.0
"""Samples over which the rate of peaks is averaged."""
LEVEL_SCALE = 3_600.0
"""Samples over which the level that makes a peak follows the stream."""
CAP = 1.5
BATCH = 8
"""Ticks between two looks for runs that have ended: fitting many tails at once is cheaper, and none is in a hurry."""


@dataclass(frozen=True, slots=True)
class TailConfig:
    """Threshold settings; raw units are those of the raw score (spreads).

    false_alarms_per_day: of the whole host, shared evenly by all streams. quantile: what lies above is tail.
    least, most: bounds of every threshold. unknown: threshold while fewer than `peaks` peaks or `samples` samples
    have been seen (or 3 times the largest peak so far). join: samples below the level that end a run.
    """

    false_alarms_per_day: float = 1.0
    tick_s: float = 1.0
    quantile: float = 0.98
    least: float = 6.0
    most: float = 1000.0
    unknown: float = 12.0
    peaks: int = 12
    samples: int = 900
    ring: int = 64
    join: int = 5


class Tail:
    """Thresholds of v views of n series, learned from their raw scores.

    >>> tail = Tail(TailConfig(), views=1)
    >>> tail.columns.grow(1)
    >>> noise = np.abs(np.random.default_rng(0).standard_normal(4000))
    >>> worst = max(float(tail.step(np.array([[x]]))[0, 0]) for x in noise)
    >>> worst < 1 < float(tail.step(np.array([[15.0]]))[0, 0])
    True
    """

    def __init__(self, config: TailConfig, views: int) -> None:
        self._config = config
        self._views = views
        self.ticks = 0
        shape = (views, 1)
        self.columns = Columns(
            level=np.full(shape, 2.0),
            seen=np.zeros(shape),
            rate=np.zeros(shape),
            peak=np.zeros(shape),
            calm=np.zeros(shape),
            peaks=np.zeros(shape, dtype=np.int64),
            ring=np.full((config.ring, *shape), np.nan, dtype=np.float32),
            threshold=np.full(shape, config.unknown),
        )

    @property
    def threshold(self) -> Floats:
        """float64[v, n], raw units."""
        return np.asarray(self.columns["threshold"], dtype=np.float64)

    def step(self, raw: Floats, learn: bool = True) -> Floats:
        """raw over the threshold learned before, float64[v, n]; then learns. NaN stays NaN and teaches nothing."""
        scores = raw / self.columns["threshold"]
        if learn and raw.size:
            self._learn(raw)
        return np.asarray(scores)

    def _learn(self, raw: Floats) -> None:
        level, seen, rate, peak, calm = (self.columns[n] for n in ("level", "seen", "rate", "peak", "calm"))
        known = np.isfinite(raw)
        over = raw > level
        np.copyto(peak, np.fmax(peak, raw), where=over)
        calm += known
        calm[over] = 0.0
        seen += known
        drift = known * np.maximum(2.0 / (seen + 20.0), 1.0 / LEVEL_SCALE)
        level *= 1.0 + drift * (over - (1.0 - self._config.quantile))
        np.clip(level, 0.5, self._config.most, out=level)
        self.ticks += 1
        if self.ticks % BATCH == 0:
            ended = (calm >= self._config.join) & (peak > 0.0)
            pace = known / np.clip(seen / BATCH, 1.0, RATE_SCALE / BATCH)
            rate += pace * (ended / BATCH - rate)
            self._keep(ended.nonzero())

    def _keep(self, at: tuple[Array, ...]) -> None:
        """Takes the highest point of each ended run into the ring of its stream and fits its tail anew.

        A peak of a known tail counts at most as CAP thresholds: one alarm hardly moves the threshold, many do.
        """
        columns, threshold = self.columns, self.columns["threshold"]
        trusted = (columns["peaks"][at] >= self._config.peaks) & (columns["seen"][at] >= self._config.samples)
        top = np.where(trusted, np.minimum(columns["peak"][at], CAP * threshold[at]), columns["peak"][at])
        place = columns["peaks"][at] % self._config.ring
        columns["ring"][(place, *at)] = np.maximum(top - columns["level"][at], 1e-3)
        columns["peaks"][at] += 1
        columns["peak"][at] = 0.0
        excess = columns["ring"][:, at[0], at[1]].astype(np.float64)
        fitted = columns["level"][at] + self._reach(excess, columns["rate"][at])
        largest = columns["level"][at] + np.fmax.reduce(excess, axis=0)
        value = np.where(trusted, fitted, np.maximum(self._config.unknown, 3.0 * largest))
        threshold[at] = np.clip(value, self._config.least, self._config.most)

    def _reach(self, excess: Floats, rate: Floats) -> Floats:
        """How far above the level the alarm threshold lies; excess: float64[ring, c], NaN = empty place."""
        mean, shape = pareto(excess)
        streams = max(self._views * self.columns.n, 1)
        wanted = self._config.false_alarms_per_day * self._config.tick_s / DAY_S / streams
        ratio = np.maximum(rate / wanted, 1.0)
        scale = mean * (1.0 - shape)
        return np.asarray(np.where(shape > 1e-6, scale * np.expm1(shape * np.log(ratio)) / np.maximum(shape, 1e-6),
                                   scale * np.log(ratio)))


def pareto(excess: Floats) -> tuple[Floats, Floats]:
    """Mean and shape of Generalised Pareto excesses, by probability-weighted moments with a prior on the shape.

    excess: float64[m, c], one column per stream, NaN = empty (at least one value each). Both results float64[c].

    >>> mean, shape = pareto(np.random.default_rng(1).exponential(2.0, (500, 1)))
    >>> abs(mean[0] - 2) < 0.2 and shape[0] < 0.15
    np.True_
    """
    ordered = np.sort(excess, axis=0)  # NaN goes last
    filled = np.isfinite(ordered)
    m = filled.sum(axis=0)
    np.copyto(ordered, 0.0, where=~filled)
    rank = np.arange(1, len(ordered) + 1)[:, None]
    mean = ordered.sum(axis=0) / m
    weighted = (ordered * (1.0 - (rank - 0.35) / m)).sum(axis=0) / m
    with np.errstate(divide="ignore", invalid="ignore"):
        shape = 2.0 - mean / (mean - 2.0 * weighted)
    shape = np.nan_to_num(shape, nan=SHAPE_PRIOR, posinf=SHAPE_RANGE[1], neginf=SHAPE_RANGE[0])
    weight = m + SHAPE_PRIOR_PEAKS
    shape = (m * np.clip(shape, -1.0, 1.0) + SHAPE_PRIOR_PEAKS * SHAPE_PRIOR) / weight
    return mean, np.clip(shape + SAFETY / np.sqrt(weight), *SHAPE_RANGE)
