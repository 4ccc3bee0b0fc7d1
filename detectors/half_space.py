"""Is the combination unusual? Half-space trees for each subsystem, on its features' distances from their past.

Each feature is a robust z squeezed into 0..1 (0.5 = as ever, also where it has no value). The mass score of the
trees is turned into -log(1 - score), judged against its own past, and calibrated by `detectors.tail`.
The trees of a subsystem are made when its features are known, after the warm-up; no score before their first
window is full. The score of trees is bounded (about 13 spreads above its past on Gaussian noise), so that a subsystem
whose features jump about by nature gets a threshold that its trees never reach: better mute than wrong. On public
host data half-space trees are the weakest of our scores: they are here for combinations that no single series shows,
and should not open an incident alone.

Memory: 41 kB per subsystem at the default 10 trees of height 6 (1,270 nodes), bounded.

References
----------
Tan, S. C., Ting, K. M., Liu, T. F. (2011). Fast anomaly detection for streaming data. IJCAI'11, 1511-1516.
    https://www.ijcai.org/Proceedings/11/Papers/254.pdf
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from detectors.baseline import Baseline, Warmup
from detectors.columns import Bools, Ints, Memory, part
from detectors.half_space_trees import HalfSpaceTrees
from detectors.keeping import Keeping
from detectors.robust_z import RELATIVE_FLOOR, floors
from detectors.subsystems import FEATURES, Gather
from detectors.tail import Tail, TailConfig
from etio.core.errors import Broken
from etio.core.frame import Floats, Frame
from etio.core.ports import DetectorSpec
from etio.core.score import Scores
from etio.core.series import Series, labels

SCORE_SCALE = 1800.0
SCORE_FLOOR = 0.1
SAMPLES = 450
SUBSYSTEMS = tuple(FEATURES)


@dataclass(frozen=True, slots=True)
class Config:
    """trees, height, window: of the half-space trees; seed: same seed and frames, same scores.

    every: ticks from one look to the next; between them the last scores are told again. warmup: looks before the
    features count. scale: length of their baselines, in looks.
    """

    trees: int = 10
    height: int = 6
    window: int = 150
    seed: int = 1
    every: int = 2
    warmup: int = 40
    scale: float = 1800.0
    false_alarms_per_day: float = 1.0
    tick_s: float = 1.0

    def __post_init__(self) -> None:
        if not (1 <= self.trees <= 100 and 1 <= self.height <= 15) or min(self.window, self.warmup, 2 * self.every) < 2:
            raise ValueError("trees must be 1..100, height 1..15, window and warmup at least 2, every at least 1")
        if min(self.scale, self.false_alarms_per_day, self.tick_s) <= 0:
            raise ValueError("scale, false_alarms_per_day and tick_s must be positive")


class HalfSpace(Keeping):
    """Scores each subsystem: series ``anomaly_score{subsystem="cpu"}``.

    >>> detector = HalfSpace(Config(window=50, every=1))
    >>> series, rng = (Series("cpu_busy_ratio", "ratio"),), np.random.default_rng(1)
    >>> for i in range(1, 300):
    ...     scores = detector.step(Frame(i * 10**9, series, np.array([rng.normal(0.2, 0.02)])))
    >>> scores.series[0].key, bool(scores.values[0] < 1)
    ('anomaly_score{subsystem="cpu"}', True)
    """

    name = "half_space"
    series = tuple(Series("anomaly_score", "thresholds", labels=labels(subsystem=s)) for s in SUBSYSTEMS)

    def __init__(self, config: Config) -> None:
        self._config = config
        self._reset()

    def _reset(self) -> None:
        config, n = self._config, len(SUBSYSTEMS)
        self._gather = Gather()
        self._baseline = Baseline((config.scale,), 1, Warmup(config.warmup, config.warmup))
        self._trees = HalfSpaceTrees(config.trees, config.height, config.window)
        self._forests: dict[int, tuple[str, ...]] = {}
        """Features of each subsystem that has trees, in the order in which these were made."""
        self._past = Baseline((SCORE_SCALE,), 1, Warmup(config.warmup, config.window))
        look_s = config.tick_s * config.every
        self._tail = Tail(TailConfig(config.false_alarms_per_day, look_s, samples=SAMPLES), 1)
        self._past.columns.grow(n)
        self._tail.columns.grow(n)
        self._least = np.empty(0)
        self._waiting: dict[int, Ints] = {}
        self._slots = self._starts = self._owners = np.empty(0, dtype=np.intp)
        self._floor = np.full(n, SCORE_FLOOR)
        self._scores = np.full(n, np.nan)
        self._t_ns = self._ticks = 0
        self._memory = Memory()

    def step(self, frame: Frame) -> Scores:
        """float64[subsystems]; NaN for a subsystem that is warming up or has no value now.

        A tick at or before the last one changes nothing.
        """
        self._grow(frame.series)
        if frame.t_ns > self._t_ns or not self._t_ns:
            self._ticks += 1
            if self._ticks % self._config.every == 0 and len(self._gather.chosen):
                self._scores = self._look(frame.values)
        self._t_ns = frame.t_ns
        return Scores(self.name, self.series, self._scores.copy())

    def _look(self, values: Floats) -> Floats:
        z = np.append(self._features(values), np.nan)
        for subsystem in [i for i, slots in self._waiting.items() if not np.isnan(z[slots]).all()]:
            self._make(subsystem)
        raw = np.full(len(SUBSYSTEMS), np.nan)
        if self._forests:
            raw[self._owners] = self._raw(z[self._slots])
        away = self._past.step(raw[None], self._floor)[0]
        return np.asarray(self._tail.step(np.maximum(away, 0.0))[0])

    def _features(self, values: Floats) -> Floats:
        x = values[self._gather.chosen]
        x[~np.isfinite(x)] = np.nan
        floor = self._least + RELATIVE_FLOOR * np.abs(self._baseline.columns["middle"][0, 0])
        return self._gather.farthest(np.clip(self._baseline.step(x[None], floor)[0, 0], -1e6, 1e6))

    def _raw(self, z: Floats) -> Floats:
        """-log(1 - score) of each forest, which then learns; NaN where it has no score yet, or no value now."""
        missing = np.isnan(z)
        path = self._trees.paths(np.where(missing, 0.5, 0.5 + 0.5 * z / (np.abs(z) + 4.0)))
        here: Bools = ~np.logical_and.reduceat(missing, self._starts)
        raw = -np.log(np.maximum(1.0 - self._trees.scores(path), 1e-4))
        self._trees.learn(path, here)
        return np.where(here, raw, np.nan)

    def _make(self, subsystem: int) -> None:
        """Trees of a subsystem, of the features known when they are first needed."""
        self._plant(subsystem, tuple(self._gather.features[i][1] for i in self._waiting[subsystem].tolist()))
        self._lay_out()

    def _plant(self, subsystem: int, features: tuple[str, ...]) -> int:
        self._forests[subsystem] = features
        return self._trees.add(self._config.seed + subsystem, features)

    def _grow(self, series: tuple[Series, ...]) -> None:
        known = len(self._gather.series)
        if not self._gather.grow(series):
            return
        self._baseline.columns.grow(len(self._gather.series))
        self._least = np.concatenate([self._least, floors(self._gather.series[known:])])
        self._memory.adopt(self._gather.series, known)
        self._lay_out()

    def _lay_out(self) -> None:
        """Features of each subsystem by position. Trees that exist keep theirs: one not here (any more) is -1, NaN."""
        place = {feature: i for i, feature in enumerate(self._gather.features)}
        planted = [[place.get((SUBSYSTEMS[i], name), -1) for name in names] for i, names in self._forests.items()]
        self._owners = np.array([*self._forests], dtype=np.intp)
        self._slots = np.array([slot for slots in planted for slot in slots], dtype=np.intp)
        self._starts = np.cumsum([0, *map(len, planted)])[:-1]
        self._waiting = {}
        for i, subsystem in enumerate(SUBSYSTEMS):
            known = [place[subsystem, name] for name in FEATURES[subsystem] if (subsystem, name) in place]
            if known and i not in self._forests:
                self._waiting[i] = np.array(known, dtype=np.intp)

    def snapshot(self) -> Mapping[str, Any]:
        """Baselines by series key, node masses by subsystem."""
        return {
            "keys": [s.key for s in self._gather.series],
            "t_ns": self._t_ns,
            "ticks": [self._ticks, self._tail.ticks],
            "scores": self._scores.copy(),
            "baseline": self._baseline.columns.snapshot(),
            "past": self._past.columns.snapshot(),
            "tail": self._tail.columns.snapshot(),
            "forests": {SUBSYSTEMS[i]: {"features": list(names), "learned": int(self._trees.learned[forest]),
                                        "masses": self._trees.masses(forest).copy()}
                        for forest, (i, names) in enumerate(self._forests.items())},
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        n = len(SUBSYSTEMS)
        keys, self._t_ns = part(state, "keys", list), part(state, "t_ns", int)
        self._scores = part(state, "scores", np.ndarray).copy()
        ticks = part(state, "ticks", list)
        if self._scores.shape != (n,) or self._scores.dtype != np.float64 or [*map(type, ticks)] != [int, int]:
            raise Broken("detector state: scores or ticks: wrong shape")
        self._ticks, self._tail.ticks = ticks
        for name, columns in (("past", self._past.columns), ("tail", self._tail.columns)):
            saved = part(state, name, dict)
            columns.check(saved, n)
            columns.take(saved, range(n), range(n))
        for subsystem, forest in part(state, "forests", dict).items():
            self._restore_forest(subsystem, forest)
        self._memory.load(keys, [(self._baseline.columns, part(state, "baseline", dict))])

    def _restore_forest(self, subsystem: str, state: Mapping[str, Any]) -> None:
        """The masses of the nodes; the trees themselves follow from the seed."""
        features = tuple(part(state, "features", list))
        if not features or not set(features) <= set(FEATURES.get(subsystem, ())):
            raise Broken(f"detector state: forests: {subsystem!r} has other features")
        learned, masses = part(state, "learned", int), part(state, "masses", np.ndarray)
        forest = self._plant(SUBSYSTEMS.index(subsystem), features)
        mine = self._trees.masses(forest)
        if learned < 1 or masses.shape != mine.shape or masses.dtype != mine.dtype or (masses < 0).any():
            raise Broken("detector state: masses do not fit the trees")
        mine[:] = masses
        self._trees.learned[forest] = learned


DETECTOR = DetectorSpec(
    name="half_space",
    config=Config,
    build=HalfSpace,
    scope="group",
    help="half-space trees: is the combination of a subsystem's main series unusual",
)
