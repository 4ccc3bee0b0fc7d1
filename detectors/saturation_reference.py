"""What steps of a server take when all is well: the yardstick of `detectors.saturation_online`.

The first EACH steps of every load cell are kept for good, so that a creeping slowdown cannot move the yardstick; new
cells fill while the server is healthy.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import log, log1p, log2, nan, sqrt
from statistics import NormalDist
from typing import Any

import numpy as np

from detectors.saturation import LatencyModel, from_plain, to_plain
from detectors.saturation_fit import Fit, fit
from etio.core.errors import NoData
from etio.core.frame import Floats

CELLS, EACH = 128, 6
SPREAD_FLOOR = 0.005
BIAS = 0.03
DEVIATION_ERROR = 0.83
REACH = 1.5


@dataclass(frozen=True, slots=True)
class Config:
    """window: steps kept. half_life: steps after which one weighs half. refit_every: steps between fits. first: steps
    before the first verdict. recent: steps that the tests for drift and degradation look at. block: steps averaged in
    a score. false_alarm: chance that the score of a healthy step is >= 1. least_excess: smallest slowdown told, ratio.
    drift_p, degraded_p: p-values below which the tests speak."""

    window: int = 256
    half_life: float = 96.0
    refit_every: int = 10
    first: int = 32
    recent: int = 20
    block: int = 8
    false_alarm: float = 1e-5
    least_excess: float = 0.1
    drift_p: float = 1e-4
    degraded_p: float = 1e-4

    def __post_init__(self) -> None:
        if not 1 <= self.block <= self.recent <= self.first <= self.window or self.refit_every < 1:
            raise ValueError("1 <= block <= recent <= first <= window and refit_every >= 1 must hold")
        if not 0 < self.false_alarm < 0.5 or min(self.half_life, self.least_excess, self.drift_p, self.degraded_p) <= 0:
            raise ValueError("false_alarm must be in 0..0.5, half_life, least_excess, drift_p, degraded_p > 0")


class Reference:
    """Expected times when all is well: the first EACH steps of every load cell (half octaves of B and S)."""

    def __init__(self) -> None:
        self.model: LatencyModel | None = None
        self.cells: dict[tuple[int, int], list[tuple[float, float, float]]] = {}
        self.batch_max = self.tokens_max = 0.0
        self.calm: deque[float] = deque(maxlen=512)
        self.calm_means: deque[float] = deque(maxlen=512)
        self.learned = 0

    @property
    def kept(self) -> int:
        """Steps held."""
        return sum(map(len, self.cells.values()))

    def keep(self, row: tuple[float, float, float]) -> None:
        """Takes a healthy step, if its cell has room."""
        key = round(2 * log2(row[0])), round(2 * log2(row[1]))
        cell = self.cells.get(key)
        if cell is None and len(self.cells) < CELLS:
            cell = self.cells[key] = []
        if cell is not None and len(cell) < EACH:
            cell.append(row)

    def learn(self) -> None:
        """Fits to the kept steps, if they have become a tenth more."""
        if self.kept <= 1.1 * self.learned:
            return
        rows = np.array([row for cell in self.cells.values() for row in cell])
        try:
            self.take(fit(rows[:, 0], rows[:, 1], rows[:, 2]))
        except NoData:
            return
        self.learned = len(rows)

    def usual(self) -> Floats:
        """Ratios of healthy steps, their middle no further than BIAS from none."""
        calm = np.array(self.calm)
        middle = float(np.median(calm))
        return calm - middle + max(-BIAS, min(BIAS, middle))

    def take(self, one: Fit) -> None:
        """Adopts a fit and its range."""
        self.model, self.batch_max, self.tokens_max = one.model, one.batch_max, one.tokens_max

    def excess(self, batch: float, tokens: float, ms: float) -> float:
        """Log of measured over expected; NaN without a model or beyond REACH times its range."""
        if self.model is None or batch > REACH * self.batch_max or tokens > REACH * self.tokens_max:
            return nan
        return log(ms / float(self.model.predict(batch, tokens)))

    def snapshot(self) -> dict[str, Any]:
        """Plain values and arrays."""
        return {"model": None if self.model is None else to_plain(self.model), "batch_max": self.batch_max,
                "tokens_max": self.tokens_max, "learned": self.learned,
                "rows": np.array([row for cell in self.cells.values() for row in cell]),
                "calm": np.array(self.calm), "means": np.array(self.calm_means)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes a snapshot back; raises KeyError, TypeError or ValueError when it is none."""
        self.model = None if state["model"] is None else from_plain(state["model"])
        self.batch_max, self.tokens_max = float(state["batch_max"]), float(state["tokens_max"])
        for b, s, ms in state["rows"]:
            self.keep((float(b), float(s), float(ms)))
        self.calm.extend(map(float, state["calm"]))
        self.calm_means.extend(map(float, state["means"]))
        self.learned = int(state["learned"])

    def threshold(self, config: Config) -> tuple[float, float]:
        """(usual mean of a block, how far above it is an alarm).

        The spread of block means: as seen, but no less than of independent steps, and one standard error more, as
        blocks overlap and are few at first. More than BIAS is never usual: a server that was slow from the start is
        slow.
        """
        unsure = 1.0 + DEVIATION_ERROR * sqrt(config.block / len(self.calm_means))
        spread = max(SPREAD_FLOOR, unsure * max(_spread(self.calm_means), _spread(self.calm) / sqrt(config.block)))
        usual = max(-BIAS, min(BIAS, float(np.median(self.calm_means))))
        return usual, max(NormalDist().inv_cdf(1.0 - config.false_alarm) * spread, log1p(config.least_excess))


def _spread(values: Iterable[float]) -> float:
    """Standard deviation of the healthy middle: 1.4826 times the median absolute deviation."""
    x = np.array(list(values))
    return 1.4826 * float(np.median(np.abs(x - np.median(x))))
