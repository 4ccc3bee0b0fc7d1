"""Which rank of a training job computes slower than it should: stragglers and fail-slow, found while the job runs.

Each rank's own-compute time (`detectors.straggler_work`) is split, in logarithms, into parts that are no fault of the
rank: what the whole job does in this step (median of all other ranks against their baselines), what its stage does
(its peers became slower with it), and what its replica does (the same micro-batches are long in every stage; used
only where that makes the job's noise smaller). What remains goes into two one-sided CUSUMs:

- change: against the rank's own frozen baseline; needs history but no peer of the same role, so two peers suffice;
- level: against the baselines of its peers of the same stage; needs no history, so a rank that was slow from the
  beginning is found as well.

Whole stages and whole replicas are watched the same way, and blamed instead of their ranks.

Memory: about 1 KiB per rank; ranks not seen for a window of steps are forgotten.

References
----------
Lin et al. (2025). Understanding stragglers in large model training using what-if analysis. OSDI'25. arXiv 2505.05713
    (own-compute time, stage imbalance, sequence-length imbalance).
Wu et al. (2025). Greyhound: hunting fail-slows in hybrid-parallel training at scale. ATC'25. arXiv 2410.12588
    (a change of at least 10 % before it is told without peers).
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from detectors.columns import Bools, Ints
from detectors.straggler_statistics import (
    MAD_TO_SIGMA,
    RECENT,
    Cusum,
    Roster,
    gather,
    groups_of,
    median,
    median_of_others,
    spread,
)
from detectors.straggler_work import Member
from etio.core.frame import Floats

MEDIAN_ERROR = 1.25
"""Standard error of a median over that of a mean, for normal noise (root of pi/2)."""

VIEWS = ("shared", "staged", "plain")
"""What is taken off a rank's rise: what its stage peers and then its replica did in this step; what its stage peers
did; what the whole job did, and its stage where that rose. The more is taken off the less work is mistaken for
slowness, but each median adds the noise of the few ranks it is of."""


@dataclass(frozen=True, slots=True)
class Config:
    """slowdown: smallest lasting one that must be found. noise: least spread assumed. imbalance: by which a whole
    stage or replica must be heavier to be told. quiet_steps: of the whole job between two false alarms, on the
    average. window: steps that make a baseline, after which it is frozen.

    `slowdown` 0.05 and `noise` 0.01 are the bar and what balanced jobs show (1.3 % at the 99th percentile).
    """

    slowdown: float = 0.05
    noise: float = 0.01
    imbalance: float = 0.10
    quiet_steps: float = 10_000.0
    window: int = 32

    def __post_init__(self) -> None:
        if min(self.slowdown, self.noise, self.imbalance) <= 0 or self.quiet_steps < 1 or self.window < 2 * RECENT:
            raise ValueError("slowdown, noise and imbalance must be positive, quiet_steps >= 1, window >= 10")


@dataclass(frozen=True, slots=True)
class Slow:
    """One that is slow now: ratio of its time to what is expected; since: number of the step() call that began it."""

    what: Literal["rank", "stage", "replica"]
    number: int
    ratio: float
    since: int
    against: Literal["own history", "peers"]

    def __str__(self) -> str:
        than = "its own baseline" if self.against == "own history" else f"its peers among the {self.what}s"
        return f"{self.what} {self.number} computes {self.ratio - 1:.1%} longer than {than}, since step {self.since}"


class Stragglers:
    """Watches one job, one call per step.

    >>> job = tuple(Member(r, stage=r // 4, replica=r % 4) for r in range(8))
    >>> watch, rng = Stragglers(Config()), np.random.default_rng(1)
    >>> for i in range(30):
    ...     seconds = np.exp(rng.normal(0.0, 0.005, 8))
    ...     seconds[3] *= 1.1 if i >= 20 else 1.0
    ...     slow = watch.step(job, seconds)
    >>> [(s.what, s.number, s.since) for s in slow]
    [('rank', 3, 20)]
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._members: tuple[Member, ...] = ()
        self._at: dict[Member, int] = {}
        blank = np.full((config.window, 1), np.nan)
        self._roster = Roster(samples=blank, **dict.fromkeys(VIEWS, blank), base=np.full(1, np.nan),
                              count=np.zeros(1, dtype=np.int64), seen=np.zeros(1, dtype=np.int64))
        self._change, self._level = Cusum(), Cusum()
        self._stages = _Wholes("stage", config)
        self._replicas = _Wholes("replica", config)
        self._steps = -1
        self._regroup()

    def step(self, members: Sequence[Member], seconds: Floats) -> tuple[Slow, ...]:
        """Takes the own-compute seconds of one step in (float64[len(members)]; NaN or <= 0 = unknown) and tells who
        is slow now. Members may come, go and stay away; nobody is judged by a value that is missing."""
        self._steps += 1
        self._admit(members)
        y = self._logs(members, seconds)
        rose, raw = self._residuals(y)
        offset = self._roster["base"] - median_of_others(self._roster["base"], self._by_stage)
        sigma = self._sigma(offset)
        limit = float(np.log(self._config.quiet_steps * max(len(self._members), 1)))
        self._change.step(np.where(self._used() >= RECENT, rose, np.nan), raw[1], sigma, self._allow(sigma), limit)
        self._level.step(offset + rose, offset + raw[0], sigma, self._allow_level(sigma, offset), limit)
        self._judge_wholes(raw[0], offset, limit)
        self._learn(y)
        return self._tell()

    def _logs(self, members: Sequence[Member], seconds: Floats) -> Floats:
        y = np.full(len(self._members), np.nan)
        x = np.asarray(seconds, dtype=np.float64)
        good = np.isfinite(x) & (x > 0)
        places = np.array([self._at[m] for m in members], dtype=np.intp)
        y[places[good]] = np.log(x[good])
        self._roster["seen"] = np.where(np.isfinite(y), self._steps, self._roster["seen"])
        return y

    def _residuals(self, y: Floats) -> tuple[Floats, tuple[Floats, Floats]]:
        """How far each rank rose over its baseline, less what the job, its stage and its replica did; and the same
        before stage and replica, and by its own history where the job has but two ranks. Keeps them for the spread."""
        base = self._roster["base"]
        rose = y - base
        first = np.isfinite(y) & ~np.isfinite(base)
        common = float(median(rose))
        base[first] = y[first] - (common if np.isfinite(common) else 0.0)
        rose = y - base
        alone = rose - median_of_others(rose, self._all)
        peers = median_of_others(rose, self._by_stage)
        staged = np.where(np.isfinite(peers), rose - peers, alone)
        plain = alone - np.maximum(np.nan_to_num(median_of_others(alone, self._by_stage)), 0.0)
        shared = staged - np.nan_to_num(median_of_others(staged, self._by_replica))
        views = dict(zip(VIEWS, (shared, staged, plain), strict=True))
        self._remember(views)
        own = np.minimum(alone, rose) if len(self._members) <= 2 else alone
        return views[self._view()], (alone, own)

    def _remember(self, views: dict[str, Floats]) -> None:
        """For the spread; the shift of a rank that is being blamed is no noise."""
        blamed = self._change.on | self._level.on
        for name, x in views.items():
            self._roster[name][self._steps % self._config.window] = np.where(blamed, np.nan, x)

    def _view(self) -> str:
        """The most corrected of VIEWS that does not make the noise of most ranks larger."""
        noise = [max(float(np.nan_to_num(median(spread(self._roster[v])))), self._config.noise) for v in VIEWS]
        return VIEWS[int(np.argmin(noise))]

    def _own_noise(self) -> Floats:
        """Spread of each rank without the newest steps, which may belong to a slowdown; NaN until there are enough."""
        window = self._roster[self._view()]
        age = (self._steps - np.arange(len(window))) % len(window)
        return spread(np.where((age >= RECENT)[:, None], window, np.nan), least=2 * RECENT)

    def _sigma(self, offset: Floats) -> Floats:
        """Noise of each rank: the largest of its own, that of most ranks, and the floor."""
        own, typical = self._own_noise(), float(median(spread(self._roster[self._view()])))
        if not np.isfinite(typical):
            typical = _between(offset)
        return np.fmax(np.fmax(own, typical), self._config.noise)

    def _allow(self, sigma: Floats) -> Floats:
        """Half the slowdown looked for, but never within three errors of the baseline itself."""
        error = MEDIAN_ERROR * sigma / np.sqrt(np.maximum(self._used(), 1))
        return np.maximum(self._config.slowdown / 2.0, 3.0 * error)

    def _allow_level(self, sigma: Floats, offset: Floats) -> Floats:
        """As _allow, and outside of what sets healthy parts apart; of two peers none is the odd one, so twice it."""
        least = np.maximum(self._allow(sigma), 4.0 * _between(offset))
        return np.where(self._pairs, np.maximum(least, self._config.slowdown), least)

    def _used(self) -> Ints:
        """Samples in each baseline: all but the newest, which may belong to a slowdown not yet found."""
        count = self._roster["count"]
        return np.where(count <= RECENT, count, np.maximum(count - RECENT, RECENT))

    def _learn(self, y: Floats) -> None:
        """Adds this step to the baselines that are not yet full, but for ranks that are being blamed."""
        roster = self._roster
        common = float(median(y - roster["base"]))
        fresh = np.isfinite(y) & (roster["count"] < self._config.window) & ~self._change.on
        if not np.isfinite(common) or not fresh.any():
            return
        at = np.flatnonzero(fresh)
        roster["samples"][roster["count"][at], at] = y[at] - common
        roster["count"][at] += 1
        rows = np.arange(self._config.window)[:, None] < self._used()[at]
        roster["base"][at] = median(np.where(rows, roster["samples"][:, at], np.nan), axis=0)

    def _judge_wholes(self, alone: Floats, offset: Floats, limit: float) -> None:
        base = self._roster["base"]
        stages = median(gather(base, self._by_stage), low=True)
        heavier = stages - median_of_others(stages, groups_of([0] * len(stages)))
        rose = np.nan_to_num(median(gather(alone, self._by_stage), low=True))
        several = (self._by_stage >= 0).sum(axis=1) > 1
        self._stages.step(self._stage_numbers, heavier + np.where(several, rose, 0.0), limit)
        many = (self._by_replica >= 0).sum(axis=1) > 1
        whole = median(gather(offset + alone, self._by_replica), low=True)
        self._replicas.step(self._replica_numbers, np.where(many, whole, np.nan), limit)

    def _tell(self) -> tuple[Slow, ...]:
        stages, replicas = self._stages.told(self._steps), self._replicas.told(self._steps)
        excused = {s.number for s in replicas}
        ranks = []
        for i in np.flatnonzero(self._change.on | self._level.on):
            if self._members[i].replica not in excused:
                ranks.append(self._slow(int(i)))
        return (*ranks, *stages, *replicas)

    def _slow(self, i: int) -> Slow:
        historic = bool(self._change.on[i])
        which = self._change if historic else self._level
        since = self._steps - int(which.columns["run"][i]) + 1
        return Slow("rank", self._members[i].rank, float(np.exp(which.size[i])), since,
                    "own history" if historic else "peers")

    def _admit(self, members: Sequence[Member]) -> None:
        gone = self._steps - self._roster["seen"] > self._config.window
        fresh = [m for m in dict.fromkeys(members) if m not in self._at or gone[self._at[m]]]
        if not fresh and not gone.any():
            return
        for roster in (self._roster, self._change.columns, self._level.columns):
            roster.keep(~gone)
            roster.grow(roster.n + len(fresh))
        self._members = (*(m for m, away in zip(self._members, gone, strict=True) if not away), *fresh)
        self._at = {m: i for i, m in enumerate(self._members)}
        self._roster["seen"][len(self._members) - len(fresh):] = self._steps
        self._regroup()

    def _regroup(self) -> None:
        self._all = groups_of([0] * len(self._members))
        self._by_stage = groups_of([m.stage for m in self._members])
        several = len({m.replica for m in self._members}) > 1
        self._by_replica = groups_of([m.replica if several else None for m in self._members])
        self._stage_numbers = _numbers([m.stage for m in self._members])
        self._replica_numbers = _numbers([m.replica if several else None for m in self._members])
        self._pairs = np.zeros(len(self._members), dtype=bool)
        for group in self._by_stage:
            self._pairs[group[group >= 0]] = (group >= 0).sum() == 2


class _Wholes:
    """Stages or replicas as wholes: each against the others of its sort."""

    def __init__(self, what: Literal["stage", "replica"], config: Config) -> None:
        self._what, self._config = what, config
        self._numbers: tuple[int, ...] = ()
        self._cusum = Cusum()
        self._window = Roster(x=np.full((config.window, 1), np.nan))
        self._row = 0

    def step(self, numbers: tuple[int, ...], x: Floats, limit: float) -> None:
        """numbers: which they are; x: how much longer each takes than the others, in logarithms, NaN = unknown."""
        if numbers != self._numbers:
            self._follow(numbers)
        self._row = (self._row + 1) % self._config.window
        self._window["x"][self._row] = x
        own = spread(self._window["x"])
        typical = float(median(own))
        sigma = np.fmax(np.fmax(own, typical if np.isfinite(typical) else _between(x)), self._config.noise)
        self._cusum.step(x, x, sigma, np.full(len(x), self._config.imbalance), limit)

    def _follow(self, numbers: tuple[int, ...]) -> None:
        mask: Bools = np.array([n in numbers for n in self._numbers], dtype=bool)
        kept = [n for n in self._numbers if n in numbers]
        order = [*kept, *(n for n in numbers if n not in kept)]
        at = np.array([order.index(n) for n in numbers], dtype=np.intp)
        for roster in (self._window, self._cusum.columns):
            roster.keep(mask)
            roster.grow(len(order))
            roster.turn(at)
        self._numbers = numbers

    def told(self, now: int) -> list[Slow]:
        """Those that are slow now."""
        return [Slow(self._what, self._numbers[i], float(np.exp(self._cusum.size[i])),
                     now - int(self._cusum.columns["run"][i]) + 1, "peers")
                for i in np.flatnonzero(self._cusum.on)]


def _between(offset: Floats) -> float:
    """Robust spread between members that should be equal; 0 where nothing is known."""
    return float(np.nan_to_num(MAD_TO_SIGMA * median(np.abs(offset))))


def _numbers(labels: Sequence[Hashable]) -> tuple[int, ...]:
    return tuple(int(str(n)) for n in dict.fromkeys(labels) if n is not None)
