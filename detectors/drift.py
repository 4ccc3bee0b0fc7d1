"""Has the host settled into another regime? River's ADWIN on one summary per subsystem, averaged over some ticks.

A score is the size of the shift over `least_shift` from its detection on for `hold` ticks, else 0 (no drift); NaN
while warming up or without values. A shift is news for a person who compares releases, rarely a fault.

Memory: at most 17 kB of averages per subsystem (`KEEP` of them; then the older half is let go) and river's window.

References
----------
Bifet, A., Gavalda, R. (2007). Learning from time-changing data with adaptive windowing. SIAM SDM 2007, 443-448.
    https://doi.org/10.1137/1.9781611972771.42
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from detectors.columns import Ints, part
from detectors.keeping import Keeping
from detectors.river_parts import adwin
from etio.core.errors import Broken
from etio.core.frame import Floats, Frame
from etio.core.ports import DetectorSpec
from etio.core.score import Scores
from etio.core.series import Series, labels

KEEP = 4320
SETTLE = 6
SUMMARIES: Mapping[str, tuple[str, str]] = {
    "cpu": ("cpu_busy_ratio", "mean"),
    "memory": ("memory_available_ratio", "mean"),
    "disk": ("disk_busy_ratio", "max"),
    "network": ("network_receive_bytes_per_second", "decades"),
    "gpu": ("gpu_utilization_ratio", "mean"),
}
"""Subsystem to the series that speaks for it and how several of them become one number in 0..1, as ADWIN's bound
assumes; "decades": log10 of the sum, in units of ten decades."""


@dataclass(frozen=True, slots=True)
class Config:
    """every: ticks averaged into one sample. delta: ADWIN's confidence. least_shift: smallest difference of means,
    in 0..1, that is an alarm. first: samples before the first verdict. hold: ticks for which a drift is told."""

    every: int = 10
    delta: float = 1e-4
    least_shift: float = 0.15
    first: int = 30
    hold: int = 60

    def __post_init__(self) -> None:
        if min(self.every, self.first, self.hold) < 1 or not 0 < self.delta < 1 or not 0 < self.least_shift <= 1:
            raise ValueError("every, first, hold must be >= 1, delta in 0..1, least_shift in 0..1")


class Watch:
    """ADWIN over one summary; a detected drift is measured after SETTLE more samples of the new regime."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._make = adwin()
        self.seen = 0
        self.values: list[float] = []
        self.replay([])

    def add(self, value: float) -> float:
        """Difference of the means after and before a drift, in the sample that confirms it; else 0. NaN: warming."""
        shift = self._feed(value)
        self.values.append(value)
        self.seen += 1
        if len(self.values) >= KEEP:
            self.replay(self.values[KEEP // 2:])
        return shift if self.seen > self._config.first else float("nan")

    def replay(self, values: list[float]) -> None:
        """Starts the window again from these values: bounds its memory, and brings it back after a restart."""
        self._model: Any = self._make(delta=self._config.delta, clock=4, grace_period=self._config.first)
        self._before, self._left = 0.0, 0
        for value in values:
            self._feed(value)
        self.values = values

    def _feed(self, value: float) -> float:
        mean = self._model.estimation
        self._model.update(value)  # river forgets the old regime at the first sample after a detection
        if self._model.drift_detected and not self._left:
            self._before, self._left = mean, SETTLE
        elif self._left:
            self._left -= 1
            if not self._left:
                return float(self._model.estimation - self._before)
        return 0.0


class Drift(Keeping):
    """Scores each subsystem: series ``drift_score{subsystem="cpu"}``.

    >>> detector = Drift(Config(every=1))
    >>> series, rng = (Series("cpu_busy_ratio", "ratio"),), np.random.default_rng(1)
    >>> told = []
    >>> for i in range(1, 400):
    ...     busy = rng.normal(0.2 if i < 300 else 0.6, 0.02)
    ...     told.append(detector.step(Frame(i * 10**9, series, np.array([busy]))).values[0])
    >>> bool(max(told[100:299]) < 1 < max(told[300:360]))
    True
    """

    name = "drift"
    series = tuple(Series("drift_score", "thresholds", labels=labels(subsystem=s)) for s in SUMMARIES)

    def __init__(self, config: Config) -> None:
        self._config = config
        self._reset()

    def _reset(self) -> None:
        n = len(SUMMARIES)
        self._names = {name: i for i, (name, _) in enumerate(SUMMARIES.values())}
        self._places: list[Ints] = [np.empty(0, dtype=np.intp) for _ in range(n)]
        self._watches: dict[int, Watch] = {}
        self._sums, self._counts = np.zeros(n), np.zeros(n)
        self._scores = np.full(n, np.nan)
        self._until = np.zeros(n)
        self._tick = 0
        self._known = 0
        self._t_ns = 0

    def step(self, frame: Frame) -> Scores:
        """float64[subsystems]; a tick at or before the last one changes nothing."""
        self._grow(frame.series)
        if frame.t_ns > self._t_ns or not self._t_ns:
            self._learn(frame.values)
        self._t_ns = frame.t_ns
        return Scores(self.name, self.series, self._scores.copy())

    def _learn(self, values: Floats) -> None:
        self._tick += 1
        for i, (places, (_, how)) in enumerate(zip(self._places, SUMMARIES.values(), strict=True)):
            value = _summary(values[places].tolist(), how) if len(places) else math.nan
            if not math.isnan(value):
                self._sums[i] += value
                self._counts[i] += 1
        if self._tick % self._config.every == 0:
            for i in range(len(SUMMARIES)):
                self._judge(i)
            self._sums[:], self._counts[:] = 0.0, 0.0

    def _judge(self, i: int) -> None:
        if not self._counts[i]:
            self._scores[i] = np.nan
            return
        if i not in self._watches:
            self._watches[i] = Watch(self._config)
        score = abs(self._watches[i].add(float(self._sums[i] / self._counts[i]))) / self._config.least_shift
        if score > 0:
            self._until[i] = self._tick + self._config.hold
        if np.isnan(self._scores[i]) or score > self._scores[i] or self._tick >= self._until[i]:
            self._scores[i] = score

    def _grow(self, series: tuple[Series, ...]) -> None:
        for i, one in enumerate(series[self._known:], self._known):
            if one.name in self._names:
                at = self._names[one.name]
                self._places[at] = np.append(self._places[at], i)
        self._known = max(self._known, len(series))

    def snapshot(self) -> Mapping[str, Any]:
        """The averages that each window was made of, and the scores being told."""
        names = tuple(SUMMARIES)
        return {
            "t_ns": self._t_ns,
            "tick": self._tick,
            "totals": np.array([self._sums, self._counts, self._scores, self._until]),
            "values": {names[i]: np.array(w.values) for i, w in self._watches.items()},
            "seen": {names[i]: w.seen for i, w in self._watches.items()},
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._t_ns, self._tick = part(state, "t_ns", int), part(state, "tick", int)
        totals = part(state, "totals", np.ndarray)
        if totals.shape != (4, len(SUMMARIES)) or totals.dtype != np.float64:
            raise Broken("detector state: totals: wrong shape")
        self._sums, self._counts, self._scores, self._until = totals.copy()
        seen, kept = part(state, "seen", dict), part(state, "values", dict)
        if unknown := [name for name in (*kept, *seen) if name not in SUMMARIES]:
            raise Broken(f"detector state: values: no subsystem {unknown[0]!r}")
        for name, values in kept.items():
            i = list(SUMMARIES).index(name)
            if not isinstance(values, np.ndarray) or values.ndim != 1 or not np.isfinite(values).all():
                raise Broken(f"detector state: values: {name}")
            self._watches[i] = Watch(self._config)
            self._watches[i].replay(values[-KEEP:].tolist())
            self._watches[i].seen = part(seen, name, int)


def _summary(values: list[float], how: str) -> float:
    known = [v for v in values if math.isfinite(v)]
    if not known:
        return math.nan
    if how == "decades":
        value = math.log10(1.0 + max(sum(known), 0.0)) / 10.0
    else:
        value = max(known) if how == "max" else sum(known) / len(known)
    return min(max(value, 0.0), 1.0)


DETECTOR = DetectorSpec(
    name="drift",
    config=Config,
    build=Drift,
    scope="group",
    help="river ADWIN: has the level of a subsystem shifted for good",
)
