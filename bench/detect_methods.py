"""The detectors of the table: ours as the product runs them, and the baselines, all as streams without labels."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from bench.detect_data import Dataset, Machine
from bench.scoring import Floats
from detectors.fusion import Fusion, FusionConfig
from detectors.river_parts import half_space_trees
from detectors.robust_z import FLOORS, Config, RobustZ
from detectors.threshold import Budget, Threshold
from etio.core.frame import NS, Frame
from etio.core.series import Series

FLOOR = 2.0 * FLOORS["ratio"]
"""The data is scaled to 0..1 by its authors: ratios, with the product's floor for ratios (detectors/joint.py)."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a method gave for one machine, training rows first. alarm: float64[n], compared with threshold float64[n]
    (follows the stream) or with fixed (from the training part). ranking: float64[n] for VUS-PR. carriers:
    float64[n, d], or None where the method does not say which metric."""

    alarm: Floats
    threshold: Floats
    fixed: float
    ranking: Floats
    carriers: Floats | None


Method = Callable[[Dataset], list[Run]]


def fixed(alarm: Floats, train: int, budget: Budget) -> float:
    """The budget's threshold from the newest quarter of the training part, never moved."""
    newest = alarm[train - train // 4:train]
    blocks = newest[:len(newest) // budget.block * budget.block].reshape(-1, budget.block)
    return float(budget.level(np.fmax.reduce(blocks, axis=1)[:, None])[0])


def joint(dataset: Dataset) -> list[Run]:
    """Our detector with its default setting at the pace of the data; every machine is a group, all step together."""
    config = FusionConfig(period_s=dataset.period_s)
    shape = len(dataset.machines), max(m.x.shape[1] for m in dataset.machines)
    rows = max(len(m.x) for m in dataset.machines)
    x = np.full((rows, *shape), np.nan)
    for i, machine in enumerate(dataset.machines):
        x[:len(machine.x), i, :machine.x.shape[1]] = machine.x
    fusion, floor = Fusion(*shape, config), np.array(FLOOR)
    told = np.empty((3, rows, shape[0]))
    carriers = np.empty((rows, *shape))
    for row in range(rows):
        look = fusion.step(x[row], floor)
        told[:, row] = look.alarm, look.threshold, look.sustained
        carriers[row] = look.carriers
    return [
        Run(told[0, :len(m.x), i], told[1, :len(m.x), i], fixed(told[0, :len(m.x), i], m.train, config.budget()),
            told[2, :len(m.x), i], carriers[:len(m.x), i, :m.x.shape[1]]) for i, m in enumerate(dataset.machines)
    ]


def _plain(dataset: Dataset) -> Budget:
    """One alarm a day by the recent past alone: a baseline has no natural unit to be shrunk to."""
    return Budget(1.0, trust=1.0, prior=1e9, block=round(7200 / dataset.period_s))


def _budgeted(dataset: Dataset, machine: Machine, score: Floats, carriers: Floats | None) -> Run:
    """A baseline's score with a plain budget."""
    budget = _plain(dataset)
    follow = Threshold(1, budget)
    known = np.nan_to_num(score)
    threshold = np.array([follow.step(known[i:i + 1])[0] for i in range(len(known))])
    return Run(known, threshold, fixed(known, machine.train, budget), known, carriers)


def robust_z(dataset: Dataset) -> list[Run]:
    """The product's per-series detector: each metric with its own learned tail; the alarm is its own."""
    config = Config(max_gap_s=10 * dataset.period_s, tick_s=dataset.period_s)
    runs = []
    for machine in dataset.machines:
        series = tuple(Series(f"metric{i}_ratio", "ratio") for i in range(machine.x.shape[1]))
        detector, step = RobustZ(config), int(dataset.period_s * NS)
        scores = np.array([detector.step(Frame((i + 1) * step, series, row)).values
                           for i, row in enumerate(machine.x)])
        scores = np.nan_to_num(scores)
        top = scores.max(axis=1)
        runs.append(Run(top, np.ones(len(top)), fixed(top, machine.train, _plain(dataset)), top, scores))
    return runs


def half_space(dataset: Dataset) -> list[Run]:
    """river's HalfSpaceTrees (25 trees of height 8, window of a day's third), the data scaled to 0..1 as it expects."""
    runs = []
    for machine in dataset.machines:
        window = round(86_400 / dataset.period_s / 3)
        model = half_space_trees()(n_trees=25, height=8, window_size=window, seed=1)
        names, score = [f"d{i}" for i in range(machine.x.shape[1])], np.empty(len(machine.x))
        for i, row in enumerate(machine.x.tolist()):
            named = dict(zip(names, row, strict=True))
            score[i] = model.score_one(named)
            model.learn_one(named)
        runs.append(_budgeted(dataset, machine, score, None))
    return runs


def k_means(dataset: Dataset) -> list[Run]:
    """As Netdata does it: per metric 18 two-means models over 6 hours each, one every 3 hours; an anomaly is what all
    of them find far (mean distance to both centres, scaled by the training range)."""
    runs = []
    for machine in dataset.machines:
        far = _far_from_all(_windows(machine.x), round(6 * 3600 / dataset.period_s))
        runs.append(_budgeted(dataset, machine, far.mean(axis=1), far))
    return runs


def _windows(x: Floats) -> Floats:
    """Netdata's features: differences, smoothed over 3, the last 6 of them; float64[n, d, 6]."""
    change = np.diff(x, axis=0, prepend=x[:1])
    sums = np.cumsum(np.concatenate([np.zeros((3, x.shape[1])), change]), axis=0)
    smooth = (sums[3:] - sums[:-3]) / 3
    padded = np.concatenate([np.zeros((5, x.shape[1])), smooth])
    return np.stack([padded[i:i + len(x)] for i in range(6)], axis=2)


def _far_from_all(windows: Floats, span: int, models: int = 18) -> Floats:
    """Least scaled distance over the models, float64[n, d]; 0 before the first model."""
    rng, far = np.random.default_rng(1), np.zeros(windows.shape[:2])
    kept: list[tuple[Floats, Floats, Floats]] = []
    for start in range(span, len(windows), span // 2):
        kept = [*kept[-(models - 1):], _two_means(windows[start - span:start], rng)]
        block = windows[start:start + span // 2]
        far[start:start + len(block)] = np.min([_distance(block, c, low, high) for c, low, high in kept], axis=0)
    return far


def _two_means(train: Floats, rng: np.random.Generator, rounds: int = 8) -> tuple[Floats, Floats, Floats]:
    """Centres float64[2, d, 6] of each metric and the range of its distances; 0.03 is the least range."""
    centres = train[rng.integers(0, len(train), 2)].copy()
    for _ in range(rounds):
        near = np.square(train[None] - centres[:, None]).sum(axis=3).argmin(axis=0)
        for i in range(2):
            count = (near == i).sum(axis=0)
            mean = np.where((near == i)[..., None], train, 0.0).sum(axis=0) / np.maximum(count, 1)[:, None]
            centres[i] = np.where(count[:, None] > 0, mean, centres[i])
    distance = _distance(train, centres, np.zeros(1), np.ones(1))
    low = distance.min(axis=0)
    return centres, low, np.maximum(distance.max(axis=0), low + 0.03)


def _distance(x: Floats, centres: Floats, low: Floats, high: Floats) -> Floats:
    away = np.sqrt(np.square(x[None] - centres[:, None]).sum(axis=3)).mean(axis=0)
    return np.asarray((away - low) / (high - low))


METHODS: Mapping[str, Method] = {
    "joint": joint, "robust_z": robust_z, "half_space": half_space, "k_means": k_means,
}
