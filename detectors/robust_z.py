"""How far each series is from its own past, in level and in change, against robust baselines at several time scales.

The raw score is the smallest distance over the scales (what was normal an hour ago is no news), made comparable by
`detectors.tail`: 1.0 = alarm at the configured false-alarm rate. Level and change have tails of their own; the
larger score is told. What is unusual is not yet harmful: that is for the engine's policy to weigh.

Memory: 768 bytes per series at the default setting (72 of baselines at 3 scales for each of 2 views, 256 of peaks
per view, the rest counters), bounded.

References
----------
Siffer et al. (2017), KDD'17, https://doi.org/10.1145/3097983.3098144 (threshold on a stream relative to its drift).
Roberts, S. W. (1959). Control chart tests based on geometric moving averages. Technometrics 1(3), 239-250.
    https://doi.org/10.1080/00401706.1959.10489860 (exponential weights).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from detectors.baseline import Baseline, Warmup
from detectors.columns import Columns, Memory, part
from detectors.keeping import Keeping
from detectors.tail import Tail, TailConfig
from etio.core.errors import Broken
from etio.core.frame import NS, Floats, Frame
from etio.core.ports import DetectorSpec
from etio.core.score import Band, Scores
from etio.core.series import Series

LEVEL, CHANGE = 0, 1
LARGEST = 1e6
FLOORS: Mapping[str, float] = {
    "ratio": 0.02,
    "seconds": 1e-3,
    "seconds/s": 0.02,
    "cores": 0.05,
    "bytes": 16 * 2.0**20,
    "pages": 4 * 2.0**10,
    "KiB": 16 * 2.0**10,
    "huge pages": 8.0,
    "bytes/s": 2.0**20,
    "KiB/s": 2.0**10,
    "pages/s": 2.0**8,
    "1/s": 5.0,
    "1": 1.0,
    "celsius": 1.0,
    "watts": 3.0,
    "hertz": 1e7,
}
"""Least spread by unit: a difference of a few of these matters to nobody, however still the series was. The smallest
step that can alarm is 6 of them, 12 while the tail is not yet known."""
NAMED_FLOORS: Mapping[str, float] = {
    "net_connections_reset_per_second": 1.0,
    "net_turned_away_per_second": 2.0,
}
"""Of series whose every count is somebody's failure, in place of that of their unit."""
COUNTED = ("1/s", "1")
"""Units of counted things: twice the root of the level is added to their floor, as for a Poisson process."""
RELATIVE_FLOOR = 0.02
OTHER_FLOOR = 1e-3


@dataclass(frozen=True, slots=True)
class Config:
    """scales_samples: lengths of the baselines. warmup: samples before the first score; settled: before the band has
    its final width. max_gap_s: a change over a longer gap is not judged. The rest as in detectors.tail."""

    scales_samples: tuple[float, ...] = (300.0, 3600.0, 21600.0)
    warmup: int = 60
    settled: int = 300
    max_gap_s: float = 10.0
    false_alarms_per_day: float = 1.0
    tick_s: float = 1.0

    def __post_init__(self) -> None:
        if not self.scales_samples or min(self.scales_samples) < 2 or not 2 <= self.warmup <= self.settled:
            raise ValueError("scales_samples must be >= 2, and 2 <= warmup <= settled")
        if min(self.max_gap_s, self.false_alarms_per_day, self.tick_s) <= 0:
            raise ValueError("max_gap_s, false_alarms_per_day and tick_s must be positive")


def floors(series: tuple[Series, ...]) -> Floats:
    """Least spread of each series by its unit, float64[n]."""
    return np.array([FLOORS.get(s.unit, OTHER_FLOOR) for s in series])


class RobustZ(Keeping):
    """Scores every series of the frame.

    >>> from etio.core.series import Series
    >>> detector = RobustZ(Config(warmup=30, settled=30))
    >>> series, rng = (Series("cpu_busy_ratio", "ratio"),), np.random.default_rng(1)
    >>> for i in range(200):
    ...     scores = detector.step(Frame(i * NS + 1, series, np.array([rng.normal(0.2, 0.02)])))
    >>> bool(scores.values[0] < 1 < detector.step(Frame(200 * NS + 1, series, np.array([0.9]))).values[0])
    True
    """

    name = "robust_z"

    def __init__(self, config: Config) -> None:
        self._config = config
        self._reset()

    def _reset(self) -> None:
        config = self._config
        self._series: tuple[Series, ...] = ()
        self._baseline = Baseline(config.scales_samples, 2, Warmup(config.warmup, config.settled))
        self._tail = Tail(
            TailConfig(false_alarms_per_day=config.false_alarms_per_day, tick_s=config.tick_s), views=2
        )
        self._last = Columns(value=np.full(1, np.nan))
        self._least = np.empty(0)
        self._counts = np.empty(0)
        self._low = np.empty(0)
        self._t_ns = 0
        self._memory = Memory()

    @property
    def bytes_per_series(self) -> int:
        """State kept for one series."""
        parts = (self._baseline.columns, self._tail.columns, self._last)
        return sum(p.bytes_per_series for p in parts) + 3 * 8

    @property
    def warm_ratio(self) -> float:
        """Share of the series with a value in the last frame that are past their warm-up, 0..1."""
        present = np.isfinite(self._last["value"])
        return float(self._baseline.ready[LEVEL][present].mean()) if present.any() else 0.0

    def step(self, frame: Frame) -> Scores:
        """float64[n] over the frame's own series. A tick at or before the last one scores but teaches nothing."""
        self._grow(frame.series)
        seconds = (frame.t_ns - self._t_ns) / NS if self._t_ns else 0.0
        learn = seconds > 0 or not self._t_ns
        x = np.empty((2, len(frame.series)))
        x[LEVEL] = np.where(np.isfinite(frame.values), frame.values, np.nan)
        x[CHANGE] = x[LEVEL] - self._last["value"] if 0 < seconds <= self._config.max_gap_s else np.nan
        z = np.abs(self._baseline.step(x, self._floor(), learn))
        raw = np.minimum(z.min(axis=0), LARGEST) if len(z) > 1 else np.minimum(z[0], LARGEST)
        scores = self._tail.step(raw, learn)
        if learn:
            self._last["value"] = x[LEVEL]
        self._t_ns = frame.t_ns
        return Scores(self.name, frame.series, np.fmax(scores[LEVEL], scores[CHANGE]))

    def band(self) -> Band | None:
        """The range of each series within which its level does not alarm; the middle is that of the shortest scale."""
        if not self._series:
            return None
        middle = self._baseline.columns["middle"][:, LEVEL]
        reach = np.maximum(self._baseline.columns["spread"][:, LEVEL], self._floor())
        reach = reach * (self._baseline.wide()[LEVEL] * self._tail.threshold[LEVEL])
        unknown = ~self._baseline.ready[LEVEL]
        low, high = (middle - reach).min(axis=0), (middle + reach).max(axis=0)
        band = Band(np.maximum(low, self._low), middle[0].copy(), high)
        for edge in (band.low, band.middle, band.high):
            edge[unknown] = np.nan
        return band

    def snapshot(self) -> Mapping[str, Any]:
        """Everything learned, by series key."""
        return {
            "keys": [s.key for s in self._series],
            "t_ns": self._t_ns,
            "ticks": self._tail.ticks,
            "baseline": self._baseline.columns.snapshot(),
            "tail": self._tail.columns.snapshot(),
            "last": self._last.snapshot(),
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        keys, t_ns, ticks = part(state, "keys", list), part(state, "t_ns", int), part(state, "ticks", int)
        names = ("baseline", "tail", "last")
        own = (self._baseline.columns, self._tail.columns, self._last)
        if t_ns < 0:
            raise Broken("detector state: t_ns: negative")
        self._memory.load(keys, [(c, part(state, n, dict)) for c, n in zip(own, names, strict=True)])
        self._t_ns, self._tail.ticks = t_ns, ticks

    def _floor(self) -> Floats:
        """Least spread now, float64[n]: by unit, by level, and the counting noise of rates of events."""
        level = np.abs(self._baseline.columns["middle"][0, LEVEL])
        return np.asarray(self._least + RELATIVE_FLOOR * level + self._counts * np.sqrt(level))

    def _grow(self, series: tuple[Series, ...]) -> None:
        first = len(self._series)
        if len(series) <= first:
            return
        for columns in (self._baseline.columns, self._tail.columns, self._last):
            columns.grow(len(series))
        extra = series[first:]
        named = [NAMED_FLOORS.get(s.name, floor) for s, floor in zip(extra, floors(extra), strict=True)]
        self._least = np.concatenate([self._least, np.array(named)])
        self._counts = np.concatenate([self._counts, [2.0 if s.unit in COUNTED else 0.0 for s in extra]])
        self._low = np.concatenate([self._low, [-np.inf if s.unit == "celsius" else 0.0 for s in extra]])
        self._series = series
        self._memory.adopt(series, first)


DETECTOR = DetectorSpec(
    name="robust_z",
    config=Config,
    build=RobustZ,
    scope="series",
    help="distance of each series from its own past, level and change, with a tail-fitted threshold",
)
