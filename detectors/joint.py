"""Is a subsystem, or the host as a whole, unlike itself? Level, change and surprise of its series, fused.

What it computes is in detectors/fusion.py; this is its place in the product: which series form a group, ten-second
means instead of single ticks (a second's noise is no news, and it costs a tenth), and the threshold as unit: 1.0 =
alarm. Of the streaming methods measured on public labelled host metrics it is the best (docs/detectors.md).

Memory: 1.4 MB for 6 groups of at most 40 series, bounded; a series that is gone for an hour gives its place away.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from detectors.columns import Ints, part
from detectors.fusion import Fusion, FusionConfig, Look
from detectors.keeping import Keeping
from detectors.moments import array
from detectors.robust_z import COUNTED, FLOORS, OTHER_FLOOR
from detectors.subsystems import FEATURES
from etio.core.errors import Broken
from etio.core.frame import NS, Floats, Frame
from etio.core.ports import DetectorSpec
from etio.core.score import Scores
from etio.core.series import Series, labels

HOST = "host"
GROUPS = (*FEATURES, HOST)
FLOOR = 2.0
"""Least spread, in the floors of robust_z: several series together must not alarm on what matters to none."""
PER_NAME = 2
"""Series of one name in the group of the whole host: the first disks and links, so that no kind outweighs the rest."""
LONGEST_LOG = 20.0


@dataclass(frozen=True, slots=True)
class Config:
    """every: ticks averaged into one sample. series: most series of a group. max_gap_s: a change over a longer gap is
    not judged. alarms_per_day, trust: as in detectors.threshold."""

    every: int = 10
    tick_s: float = 1.0
    series: int = 40
    max_gap_s: float = 60.0
    alarms_per_day: float = 0.4
    trust: float = 2 / 3

    def __post_init__(self) -> None:
        if self.every < 1 or not 1 <= self.series <= 100 or min(self.tick_s, self.max_gap_s) <= 0:
            raise ValueError("every must be >= 1, series 1..100, tick_s and max_gap_s positive")
        self.fusion()

    def fusion(self) -> FusionConfig:
        """The settings of the score itself."""
        return FusionConfig(self.every * self.tick_s, alarms_per_day=self.alarms_per_day, trust=self.trust)


class Joint(Keeping):
    """Scores each subsystem and the host: series ``anomaly_score{subsystem="cpu"}``, ``{subsystem="host"}``.

    >>> detector, rng = Joint(Config(every=1)), np.random.default_rng(1)
    >>> series = (Series("cpu_busy_ratio", "ratio"), Series("cpu_runnable_per_core", "1"))
    >>> for i in range(1, 400):
    ...     x = np.array([0.2, 0.5]) + rng.normal(0, 0.02, 2) + (i > 395) * np.array([0.7, 30.0])
    ...     scores = detector.step(Frame(i * NS, series, x))
    >>> scores.series[0].key, bool(scores.values[0] > 1), detector.carriers("cpu")[0][0].name
    ('anomaly_score{subsystem="cpu"}', True, 'cpu_runnable_per_core')
    """

    name = "joint"
    series = tuple(Series("anomaly_score", "thresholds", labels=labels(subsystem=s)) for s in GROUPS)

    def __init__(self, config: Config) -> None:
        self._config = config
        self._reset()

    def _reset(self) -> None:
        self._shape = len(GROUPS), self._config.series
        self._fusion = Fusion(*self._shape, self._config.fusion())
        self._keys: list[list[str]] = [[] for _ in GROUPS]
        self._members: dict[tuple[int, int], Series] = {}
        self._places: Ints = np.full(self._shape, -1, dtype=np.intp)
        self._absent = np.zeros(self._shape)
        self._least = np.full(self._shape, OTHER_FLOOR)
        self._counted = np.zeros(self._shape)
        self._sums, self._counts = np.zeros(self._shape), np.zeros(self._shape)
        self._carriers = np.zeros(self._shape)
        self._scores = np.full(len(GROUPS), np.nan)
        self._known = self._ticks = self._t_ns = 0

    def step(self, frame: Frame) -> Scores:
        """float64[groups]; the last scores between looks. A tick at or before the last one changes nothing."""
        self._grow(frame.series)
        seconds = (frame.t_ns - self._t_ns) / NS if self._t_ns else 1.0
        if seconds > 0:
            if seconds > self._config.max_gap_s:
                self._fusion.gap()
            self._gather(frame.values)
            self._ticks += 1
            if self._ticks % self._config.every == 0:
                self._look()
        self._t_ns = frame.t_ns
        return Scores(self.name, self.series, self._scores.copy())

    def _gather(self, values: Floats) -> None:
        """Adds one tick to the sums of the present sample."""
        x = np.append(values, np.nan)[self._places]
        good = np.isfinite(x)
        np.add(self._sums, x, out=self._sums, where=good)
        self._counts += good

    def _look(self) -> None:
        with np.errstate(invalid="ignore"):
            x = np.where(self._counts > 0, self._sums / self._counts, np.nan)
        self._absent = np.where(self._counts > 0, 0.0, self._absent + 1.0)
        self._sums[:], self._counts[:] = 0.0, 0.0
        floor = FLOOR * (self._least + self._counted * np.sqrt(np.abs(self._fusion.level)))
        look: Look = self._fusion.step(x, floor)
        self._scores = np.exp(np.clip(look.alarm - look.threshold, -LONGEST_LOG, LONGEST_LOG))
        self._carriers = look.carriers

    def carriers(self, subsystem: str, most: int = 3) -> list[tuple[Series, float]]:
        """The series that carried the last score of a group, strongest first, each with its share of 0..1."""
        group = GROUPS.index(subsystem)
        parts = self._carriers[group]
        total = parts.sum()
        order = [i for i in np.argsort(-parts).tolist() if (group, i) in self._members and parts[i] > 0]
        return [(self._members[group, i], float(parts[i] / total)) for i in order[:most]]

    def _grow(self, catalogue: tuple[Series, ...]) -> None:
        for i, one in enumerate(catalogue[self._known:], self._known):
            if one.name in _SUBSYSTEM:
                self._enter(GROUPS.index(_SUBSYSTEM[one.name]), i, one)
                host = GROUPS.index(HOST)
                if one.key in self._keys[host] or self._alike(host, one.name) < PER_NAME:
                    self._enter(host, i, one)
        self._known = max(self._known, len(catalogue))

    def _alike(self, group: int, name: str) -> int:
        return sum(key.split("{", 1)[0] == name for key in self._keys[group])

    def _enter(self, group: int, place: int, one: Series) -> None:
        """Gives the series its old slot, a fresh one, or that of a series long gone; else it is left out."""
        keys = self._keys[group]
        if one.key in keys:
            slot = keys.index(one.key)
        elif len(keys) < self._config.series:
            slot = len(keys)
            keys.append(one.key)
        else:
            slot = int(self._absent[group].argmax())
            if self._absent[group, slot] < self._config.fusion().hour:
                return
            keys[slot] = one.key
            self._fusion.clear(group, slot)
        self._members[group, slot] = one
        self._places[group, slot] = place
        self._absent[group, slot] = 0.0
        self._least[group, slot] = FLOORS.get(one.unit, OTHER_FLOOR)
        self._counted[group, slot] = float(one.unit in COUNTED)

    def snapshot(self) -> Mapping[str, Any]:
        """The state of the score, and which series has which slot of each group."""
        return {
            "fusion": self._fusion.snapshot(), "t_ns": self._t_ns, "ticks": self._ticks,
            "keys": [list(keys) for keys in self._keys], "scores": self._scores.copy(),
            "sums": self._sums.copy(), "counts": self._counts.copy(), "absent": self._absent.copy(),
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        keys = part(state, "keys", list)
        if len(keys) != len(GROUPS) or not all(
            isinstance(one, list) and len(one) <= self._config.series and all(isinstance(k, str) for k in one)
            for one in keys
        ):
            raise Broken("detector state: keys: expected one list of texts for each group")
        self._t_ns, self._ticks = part(state, "t_ns", int), part(state, "ticks", int)
        self._scores = array(state, "scores", self._scores.shape, gaps=True)
        self._sums, self._counts = array(state, "sums", self._shape), array(state, "counts", self._shape)
        self._absent = array(state, "absent", self._shape)
        self._fusion.restore(part(state, "fusion", dict))
        self._keys = [list(one) for one in keys]


_SUBSYSTEM = {name: subsystem for subsystem, names in FEATURES.items() for name in names}

DETECTOR = DetectorSpec(
    name="joint",
    config=Config,
    build=Joint,
    scope="group",
    help="level, change and autoregression error of a subsystem's series, fused: is it unlike itself",
)
