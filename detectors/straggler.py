"""Which rank of a training job computes slower than it should: stragglers and fail-slow, found while the job runs.

Each rank's own-compute time (`detectors.straggler_work`) is split, in logarithms, into parts that are no fault of the
rank: what the whole job does in this step (median of all other ranks against their baselines), what its stage does
(its peers became slower with it), and what its replica does (the same micro-batches are long in every stage; used
only where that makes the job's noise smaller). What remains goes into two one-sided CUSUMs:

- change: against the rank's own frozen baseline; needs history but no peer of the same role, so two peers suffice;
- level: against the baselines of its peers of the same stage; needs no history, so a rank that was slow from the
  beginning is found as well.

Whole stages and whole replicas are watched the same way, and blamed instead of their ranks.

Memory: 1,250 bytes per rank; ranks not seen for a window of steps are forgotten.

References
----------
Lin et al. (2025). Understanding stragglers in large model training using what-if analysis. OSDI'25. arXiv 2505.05713
    (own-compute time, stage imbalance, sequence-length imbalance).
Wu et al. (2025). Greyhound: hunting fail-slows in hybrid-parallel training at scale. ATC'25. arXiv 2410.12588
    (a change of at least 10 % before it is told without peers).
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from detectors.columns import part
from detectors.straggler_statistics import (
    RECENT,
    Cusum,
    Roster,
    between,
    gather,
    groups_of,
    median,
    median_of_group,
    median_of_others,
    spread,
)
from detectors.straggler_wholes import Config, Slow, Wholes
from detectors.straggler_work import Member
from etio.core.errors import Broken
from etio.core.frame import Floats

MEDIAN_ERROR = 1.25
"""Standard error of a median over that of a mean, for normal noise (root of pi/2)."""

VIEWS = ("shared", "staged", "plain")
"""What is taken off a rank's rise: what its stage peers and then its replica did in this step; what its stage peers
did; what the whole job did, and its stage where that rose. The more is taken off the less work is mistaken for
slowness, but each median adds the noise of the few ranks it is of."""

NOISY = 1.5
"""From which ratio to the others' noise a rank has a noise of its own: three standard errors of the estimate from a
window of 32."""
UNMEASURED = 3.0
"""Noise assumed before there are steps to measure it from, in units of the floor."""
SWEEPS = 2
"""Passes of the fit per step, as in median polish; the next step goes on from there."""


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
        zero = np.zeros(1, dtype=np.int64)
        self._roster = Roster(y=blank, **dict.fromkeys(VIEWS, blank), base=np.full(1, np.nan), used=zero, born=zero,
                              seen=zero)
        self._change, self._level = Cusum(), Cusum()
        self._stages = Wholes("stage", config)
        self._replicas = Wholes("replica", config)
        self._steps, self._view, self._limit = -1, VIEWS[-1], np.inf
        self._regroup()

    def step(self, members: Sequence[Member], seconds: Floats) -> tuple[Slow, ...]:
        """Takes the own-compute seconds of one step in (float64[len(members)]; NaN or <= 0 = unknown) and tells who
        is slow now. Members may come, go and stay away; nobody is judged by a value that is missing. Raises
        ValueError where the two lengths differ or a member is named twice."""
        if len(members) != len(seconds) or len(set(members)) != len(members):
            raise ValueError("one value for each of the members, each named once")
        self._steps += 1
        self._admit(members)
        y = self._logs(members, seconds)
        self._meet(y)
        views, alone = self._views(y)
        rose, offset = views[self._view], self._offset()
        sigma = self._sigma(offset)
        limit = self._limit = float(np.log(self._config.quiet_steps * max(len(self._members), 1)))
        own = alone
        if len(self._members) <= 2:  # nobody else to ask: two thirds of the rise must show in its own time
            own = np.minimum(alone, y - self._roster["base"]) / 2.0
        historic = np.where(self._roster["used"] >= RECENT, rose, np.nan)
        self._change.step(historic, own, sigma, self._allow(sigma), limit)
        self._level.step(offset + rose, offset + own, sigma, self._allow_level(sigma, offset), limit)
        self._judge_wholes(alone, limit)
        self._learn(y)
        return self.told()

    def scores(self) -> dict[Member, float]:
        """How near each member is to being blamed: its evidence over the limit, below 1 unless it is blamed; NaN
        before five values."""
        near = np.clip(np.maximum(self._change.columns["sum"], self._level.columns["sum"]) / self._limit, 0.0, 0.99)
        near = np.where(self._change.on | self._level.on, 1.0, near)
        near[np.isfinite(self._roster["y"]).sum(axis=0) < RECENT] = np.nan
        return dict(zip(self._members, near.tolist(), strict=True))

    def snapshot(self) -> dict[str, Any]:
        """State as plain values and arrays, enough to go on after a restart."""
        replicas = [-1 if m.replica is None else m.replica for m in self._members]
        return {"ranks": [m.rank for m in self._members], "stages": [m.stage for m in self._members],
                "replicas": replicas, "steps": self._steps, "view": self._view, "limit": float(self._limit),
                "roster": self._roster.snapshot(), "change": self._change.columns.snapshot(),
                "level": self._level.columns.snapshot(), "by_stage": self._stages.snapshot(),
                "by_replica": self._replicas.snapshot()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes a snapshot back. Raises Broken where it does not fit; this one is then of no further use."""
        labels = [part(state, name, list) for name in ("ranks", "stages", "replicas")]
        if len({len(one) for one in labels}) != 1 or not all(type(n) is int for one in labels for n in one):
            raise Broken("detector state: stragglers: whole numbers of one length")
        members = tuple(Member(r, s, None if d < 0 else d) for r, s, d in zip(*labels, strict=True))
        steps, view, limit = part(state, "steps", int), part(state, "view", str), part(state, "limit", float)
        if len(set(members)) != len(members) or view not in VIEWS or steps < -1:
            raise Broken("detector state: stragglers: members twice, an unknown view or a negative step")
        for columns, name in ((self._roster, "roster"), (self._change.columns, "change"),
                              (self._level.columns, "level")):
            columns.replace(part(state, name, dict), len(members))
        self._stages.restore(part(state, "by_stage", dict))
        self._replicas.restore(part(state, "by_replica", dict))
        self._members, self._at = members, {m: i for i, m in enumerate(members)}
        self._steps, self._view, self._limit = steps, view, limit
        self._regroup()

    def _logs(self, members: Sequence[Member], seconds: Floats) -> Floats:
        y = np.full(len(self._members), np.nan)
        x = np.asarray(seconds, dtype=np.float64)
        good = np.isfinite(x) & (x > 0)
        places = np.array([self._at[m] for m in members], dtype=np.intp)
        y[places[good]] = np.log(x[good])
        self._roster["seen"] = np.where(np.isfinite(y), self._steps, self._roster["seen"])
        return y

    def _meet(self, y: Floats) -> None:
        """A first guess of the baseline of those never seen before."""
        base = self._roster["base"]
        first = np.isfinite(y) & ~np.isfinite(base)
        common = float(median(y - base))
        base[first] = y[first] - (common if np.isfinite(common) else 0.0)

    def _offset(self) -> Floats:
        """How far the baseline of each rank is above those of its stage peers; where replicas explain the noise,
        less what its replica is above the others in all stages, which says more of its data than of the rank."""
        base = self._roster["base"]
        offset = base - median_of_others(base, self._by_stage)
        if self._view == "shared":
            offset = offset - np.nan_to_num(median_of_others(offset, self._by_replica))
        return np.asarray(offset)

    def _views(self, y: Floats) -> tuple[dict[str, Floats], Floats]:
        """How far each rank of y[..., n] rose over its baseline in each of VIEWS, and against the whole job alone."""
        rose = y - self._roster["base"]
        alone = rose - median_of_others(rose, self._all)
        peers = median_of_others(rose, self._by_stage)
        staged = np.where(np.isfinite(peers), rose - peers, alone)
        plain = alone - np.maximum(np.nan_to_num(median_of_others(alone, self._by_stage)), 0.0)
        shared = staged - np.nan_to_num(median_of_others(staged, self._by_replica))
        return dict(zip(VIEWS, (shared, staged, plain), strict=True)), alone

    def _least_noisy(self) -> str:
        """The most corrected of VIEWS that does not make the noise of most ranks larger."""
        noise = [max(float(np.nan_to_num(median(spread(self._roster[v])))), self._config.noise) for v in VIEWS]
        return VIEWS[int(np.argmin(noise))]

    def _sigma(self, offset: Floats) -> Floats:
        """Noise of each rank: that of most ranks, or its own where it is clearly noisier, without the newest steps,
        which may belong to a slowdown."""
        window = self._roster[self._view]
        own, typical = spread(window[:-RECENT], least=2 * RECENT), float(median(spread(window)))
        if not np.isfinite(typical):
            typical = max(between(offset), UNMEASURED * self._config.noise)
        return np.maximum(np.where(own > NOISY * typical, own, typical), self._config.noise)

    def _allow(self, sigma: Floats) -> Floats:
        """Half the slowdown looked for, but never within four errors of the baseline itself."""
        error = MEDIAN_ERROR * sigma / np.sqrt(np.maximum(self._roster["used"], 1))
        return np.maximum(self._config.slowdown / 2.0, 4.0 * error)

    def _allow_level(self, sigma: Floats, offset: Floats) -> Floats:
        """As _allow, but outside of what sets healthy parts apart: most of the slowdown, as some of it is no change
        but how the part was made, or four spreads between peers; of two peers neither is the odd one, so all of it."""
        least = np.maximum(self._allow(sigma), max(0.8 * self._config.slowdown, 4.0 * between(offset)))
        return np.where(self._pairs, np.maximum(least, self._config.slowdown), least)

    def _learn(self, y: Floats) -> None:
        """Fits the baselines of those not longer here than the window, over all its steps, but for ranks that are
        being blamed. Learned is what job, stage and replica do not explain: with work that varies, a baseline of
        plain times would be as wrong as the work is uneven. The newest steps may belong to a slowdown: left out."""
        roster = self._roster
        blamed = self._change.on | self._level.on
        roster["y"] = np.concatenate([roster["y"][1:], np.where(blamed, np.nan, y)[None]])
        learning = self._steps - roster["born"] < self._config.window
        if learning.any():
            place = np.cumsum(np.isfinite(roster["y"]), axis=0)
            old = place <= np.maximum(place[-1] - RECENT, RECENT)
            for _ in range(SWEEPS):
                more = median(np.where(old, self._unexplained(roster["y"]), np.nan), axis=0)
                roster["base"] += np.where(learning & np.isfinite(more), more, 0.0)
            used = (old & np.isfinite(roster["y"])).sum(axis=0)
            roster["used"] = np.where(learning, used, roster["used"])
        views, _ = self._views(roster["y"])
        for name in VIEWS:
            roster[name] = views[name]
        self._view = self._least_noisy()

    def _unexplained(self, y: Floats) -> Floats:
        """What the job, or the stage and the replica, do not explain of y[..., n], for the fit. Here the medians are
        of the whole group: with those of the others, two peers would be corrected for one difference twice."""
        rose = y - self._roster["base"]
        rest = rose - median_of_group(rose, self._all)
        if self._view == "plain":
            return rest
        peers = median_of_group(rose, self._by_stage)
        rest = np.where(np.isfinite(peers), rose - peers, rest)
        if self._view == "shared":
            rest = rest - np.nan_to_num(median_of_group(rest, self._by_replica))
        return rest

    def _judge_wholes(self, alone: Floats, limit: float) -> None:
        base = self._roster["base"]
        offset = base - median_of_others(base, self._by_stage)
        stages = median(gather(base, self._by_stage), low=True)
        heavier = stages - median_of_others(stages, groups_of([0] * len(stages)))
        rose = np.nan_to_num(median(gather(alone, self._by_stage), low=True))
        several = (self._by_stage >= 0).sum(axis=1) > 1
        self._stages.step(self._stage_numbers, heavier + np.where(several, rose, 0.0), limit)
        many = (self._by_replica >= 0).sum(axis=1) > 1
        whole = median(gather(offset + alone, self._by_replica), low=True)
        self._replicas.step(self._replica_numbers, np.where(many, whole, np.nan), limit)

    def told(self) -> tuple[Slow, ...]:
        """Who is slow after the last step."""
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
        return Slow("rank", self._members[i].rank, float(np.exp(which.size[i])), which.since(i, self._steps),
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
        for name in ("seen", "born"):
            self._roster[name][len(self._members) - len(fresh):] = self._steps
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


def _numbers(labels: Sequence[Hashable]) -> tuple[int, ...]:
    return tuple(int(str(n)) for n in dict.fromkeys(labels) if n is not None)
