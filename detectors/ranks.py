"""Which rank of a GPU job on this host computes longer than it should, from what the collector gpu_jobs sees.

Each job is watched by `detectors.straggler`: own time of an iteration (without calls that wait for others) against the
rank's own past and against its peers, ranks with another set of collectives (another pipeline stage) apart. A tick
with new values of a job is one step, the mean of the iterations that ended in it. A rank is told only while what it
takes longer is a part of the iteration that matters: the host side of an asynchronous job may vary freely.

Memory: 1,250 bytes per rank. References are with detectors.straggler.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detectors.columns import part
from detectors.keeping import Keeping
from detectors.straggler import Stragglers
from detectors.straggler_wholes import Config as StragglerConfig
from detectors.straggler_wholes import Slow
from detectors.straggler_work import Member
from etio.core.errors import Broken
from etio.core.frame import Frame
from etio.core.jobs import replicas
from etio.core.ports import DetectorSpec
from etio.core.score import Scores
from etio.core.series import Series, labels

OWN, ITERATION, ROLE = "gpu_job_own_seconds", "gpu_job_iteration_seconds", "gpu_job_role"
ALERT = "RankStraggling"
WHOLES = {"stage": "StageImbalance", "replica": "ReplicaSlow"}
"""Alerts of what is slow as a whole."""
MOST_NAMED = 8
MOST_JOBS = 32
"""Jobs kept; beyond, the one without steps for longest is forgotten."""
LARGEST = 100.0


@dataclass(frozen=True, slots=True)
class Config:
    """slowdown: smallest lasting one that must be found. noise: least spread assumed, both as shares of the own time.
    matters: a rank is told only if it holds an iteration up by this share. quiet_steps: of a job between two false
    alarms, at least on the average; a step is a tick with news, so a month of ticks. window: steps of a baseline."""

    slowdown: float = 0.10
    noise: float = 0.02
    matters: float = 0.03
    quiet_steps: float = 2.6e6
    window: int = 32

    def __post_init__(self) -> None:
        if not 0 < self.matters < 1:
            raise ValueError("matters must lie between 0 and 1")
        self.inner()

    def inner(self) -> StragglerConfig:
        """What the straggler detector is set to. Raises ValueError."""
        return StragglerConfig(self.slowdown, self.noise, max(self.slowdown, 0.10), self.quiet_steps, self.window)


@dataclass(slots=True)
class _Job:
    """One job. ranks: rank label to its number; places: rank label to positions of (OWN, ITERATION, ROLE), -1 =
    absent; out: of its score, and of those of its stages and replicas that were ever told; roles: the last known of
    each rank; replicas: what follows from them. last: own times of the latest step."""

    watch: Stragglers
    ranks: dict[str, int] = field(default_factory=dict)
    places: dict[str, list[int]] = field(default_factory=dict)
    out: dict[str, int] = field(default_factory=dict)
    wholes: dict[tuple[str, int], int] = field(default_factory=dict)
    roles: dict[str, int] = field(default_factory=dict)
    replicas: dict[str, int] = field(default_factory=dict)
    last: tuple[float, ...] = ()
    step_ns: int = 0

    def number(self, rank: str) -> int:
        """The rank's number: its own, or one of its own beyond all ranks where it has none."""
        if rank not in self.ranks:
            own = int(rank) if rank.isdecimal() and len(rank) < 10 else 10**9 + len(self.ranks)
            self.ranks[rank] = own if own not in self.ranks.values() else 2 * 10**9 + len(self.ranks)
        return self.ranks[rank]


class Ranks(Keeping):
    """Scores each rank: series ``RankStraggling{job="a",rank="3"}``, 1.0 and more while it computes too long.

    >>> from etio.core.series import labels
    >>> series = tuple(Series(n, "seconds", labels=labels(job="a", rank=str(r))) for n in (OWN, ITERATION)
    ...                for r in range(4))
    >>> one, rng = Ranks(Config()), np.random.default_rng(1)
    >>> for i in range(1, 60):
    ...     own = rng.normal(0.2, 0.004, 4) * (1.0, 1.0, 1.3 if i > 40 else 1.0, 1.0)
    ...     scores = one.step(Frame(i * 10**9, series, np.concatenate([own, np.full(4, own.max())])))
    >>> [(s.entity, scores.notes[i]) for i, s in enumerate(scores.series) if scores.values[i] >= 1]
    [('job=a,rank=2', ': its own part of an iteration takes 30.4% longer than it used to')]
    """

    name = "ranks"

    def __init__(self, config: Config) -> None:
        self._config = config
        self._reset()

    def _reset(self) -> None:
        self._known = self._t_ns = 0
        self._jobs: dict[str, _Job] = {}
        self._series: tuple[Series, ...] = ()
        self._told = Scores(self.name, (), np.empty(0))

    def step(self, frame: Frame) -> Scores:
        """float64[ranks]; NaN while there are no values. A tick not after the last changes nothing."""
        self._grow(frame.series)
        if frame.t_ns > self._t_ns or not self._t_ns:
            told: dict[int, float] = {}
            notes: dict[int, str] = {}
            for name, job in self._jobs.items():
                self._watch(name, job, frame, told, notes)
            values = np.full(len(self._series), np.nan)
            values[list(told)] = list(told.values())
            self._told = Scores(self.name, self._series, values, notes)
        self._t_ns = frame.t_ns
        return Scores(self.name, self._told.series, self._told.values.copy(), self._told.notes)

    def _watch(self, name: str, job: _Job, frame: Frame, out: dict[int, float], notes: dict[int, str]) -> None:
        """One tick of one job: a step where it has news; scores of those that have a value."""
        own = {rank: _at(frame, places[0]) for rank, places in job.places.items()}
        present = {rank: x for rank, x in own.items() if np.isfinite(x)}
        if not present:
            return
        self._meet(job, frame)
        members = {rank: self._member(job, rank) for rank in present}
        if tuple(own.values()) != job.last:
            slow = job.watch.step(tuple(members.values()), np.array(list(present.values())))
            job.last, job.step_ns = tuple(own.values()), frame.t_ns
        else:
            slow = job.watch.told()
        blamed = {s.number: s for s in slow if s.what == "rank"}
        scores = job.watch.scores()
        for rank, member in members.items():
            score, one = scores.get(member, np.nan), blamed.get(member.rank)
            if one is not None and self._matters(job, rank, one, frame):
                score = min(max(1.0, np.log(one.ratio) / np.log1p(self._config.slowdown)), LARGEST)
                notes[job.out[rank]] = _note(one)
            out[job.out[rank]] = score
        self._tell_wholes(name, job, [s for s in slow if s.what in WHOLES], frame, out, notes)

    def _tell_wholes(self, name: str, job: _Job, slow: list[Slow], frame: Frame, out: dict[int, float],
                     notes: dict[int, str]) -> None:
        """Scores of the stages and replicas of a job: those that are slow now, and 0 for those that were once."""
        out.update(dict.fromkeys(job.wholes.values(), 0.0))
        for one in slow:
            of = job.roles if one.what == "stage" else job.replicas
            ranks = [rank for rank in job.places if of.get(rank, 0 if one.what == "stage" else -1) == one.number]
            if sum(self._matters(job, rank, one, frame) for rank in ranks) * 2 <= len(ranks):
                continue
            at = job.wholes.get((one.what, one.number))
            if at is None:
                at = job.wholes[one.what, one.number] = len(self._series)
                pairs = {"job": name, one.what: str(one.number)}
                self._series += (Series(WHOLES[one.what], "thresholds", labels=labels(**pairs)),)
            out[at] = min(max(1.0, np.log(one.ratio) / np.log1p(self._config.inner().imbalance)), LARGEST)
            notes[at] = _whole_note(one, ranks)

    def _meet(self, job: _Job, frame: Frame) -> None:
        """Takes the roles of the ranks in; one that is unknown in a tick keeps its own."""
        roles = {rank: int(x) for rank, places in job.places.items() if 0 <= (x := _at(frame, places[2])) < 1e6}
        if not roles.items() <= job.roles.items():
            job.roles |= roles
            job.replicas = replicas(job.roles)

    def _member(self, job: _Job, rank: str) -> Member:
        return Member(job.number(rank), job.roles.get(rank, 0), job.replicas.get(rank))

    def _matters(self, job: _Job, rank: str, slow: Slow, frame: Frame) -> bool:
        """Whether what it takes longer is a noticeable part of the iteration; yes where that is unknown."""
        own, iteration = (_at(frame, place) for place in job.places[rank][:2])
        excess = own * (1.0 - 1.0 / slow.ratio)
        return bool(not iteration > 0 or excess >= self._config.matters * iteration)

    def _grow(self, series: tuple[Series, ...]) -> None:
        fresh = [(i, s) for i, s in enumerate(series[self._known:], self._known) if s.name in (OWN, ITERATION, ROLE)]
        self._known = max(self._known, len(series))
        for i, one in fresh:
            job, rank = one.label("job"), one.label("rank")
            if job is None or rank is None:
                continue
            known = self._job(job)
            known.places.setdefault(rank, [-1, -1, -1])[(OWN, ITERATION, ROLE).index(one.name)] = i
            if one.name == OWN and rank not in known.out:
                known.out[rank] = len(self._series)
                self._series += (Series(ALERT, "thresholds", labels=one.labels),)

    def _job(self, name: str) -> _Job:
        if name not in self._jobs:
            if len(self._jobs) >= MOST_JOBS:
                del self._jobs[min(self._jobs, key=lambda n: self._jobs[n].step_ns)]
            self._jobs[name] = _Job(Stragglers(self._config.inner()))
        return self._jobs[name]

    def snapshot(self) -> Mapping[str, Any]:
        """Every job's baselines and sums."""
        return {"t_ns": self._t_ns, "jobs": {
            name: {"ranks": list(job.ranks), "numbers": list(job.ranks.values()), "step_ns": job.step_ns,
                   "roles": dict(job.roles), "last": [float(x) for x in job.last], "order": list(job.places),
                   "watch": job.watch.snapshot()}
            for name, job in self._jobs.items()}}

    def _restore(self, state: Mapping[str, Any]) -> None:
        t_ns, jobs = part(state, "t_ns", int), part(state, "jobs", dict)
        if t_ns < 0 or len(jobs) > MOST_JOBS:
            raise Broken("detector state: ranks: negative time or too many jobs")
        for name, saved in jobs.items():
            ranks, numbers = part(saved, "ranks", list), part(saved, "numbers", list)
            if len(ranks) != len(numbers) or not all(type(n) is int for n in numbers):
                raise Broken("detector state: ranks: one number for each rank")
            job = self._job(str(name))
            job.ranks = {str(rank): number for rank, number in zip(ranks, numbers, strict=True)}
            roles = part(saved, "roles", dict) if "roles" in saved else {}
            if not all(type(role) is int for role in roles.values()):
                raise Broken("detector state: ranks: a role that is no number")
            job.roles = {str(rank): role for rank, role in roles.items()}
            job.replicas = replicas(job.roles)
            job.step_ns, job.last = part(saved, "step_ns", int), tuple(map(float, part(saved, "last", list)))
            job.watch.restore(part(saved, "watch", dict))
        self._t_ns = t_ns


def _at(frame: Frame, place: int) -> float:
    return float(frame.values[place]) if 0 <= place < len(frame.values) else np.nan


def _note(slow: Slow) -> str:
    than = "than it used to" if slow.against == "own history" else "than that of its peers"
    return f": its own part of an iteration takes {slow.ratio - 1:.1%} longer {than}"


def _whole_note(slow: Slow, ranks: list[str]) -> str:
    more = f" and {len(ranks) - MOST_NAMED} more" if len(ranks) > MOST_NAMED else ""
    who = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {', '.join(ranks[:MOST_NAMED])}{more}"
    longer = f"{slow.ratio - 1:.1%} longer than that of the other {slow.what}s"
    return f": its own part of an iteration ({who}) takes {longer}"


DETECTOR = DetectorSpec(
    name="ranks",
    config=Config,
    build=Ranks,
    scope="rule",
    help="ranks of GPU jobs that compute longer than their peers or than they used to; stages and replicas as wholes",
)
