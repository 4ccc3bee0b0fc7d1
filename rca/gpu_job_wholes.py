"""Stages and replicas of a GPU job as wholes: what their ranks need, and what the others wait."""

import math
from collections.abc import Callable, Iterable
from typing import Literal

import numpy as np

from etio.core.evidence import Evidence
from etio.core.jobs import replicas
from rca.conditions import missing
from rca.culprits import fact
from rca.evidence import Measure
from rca.scene import Scene
from rca.spec import Outcome
from rca.units import clean, humanise, plural

What = Literal["stage", "replica"]
ALERTS = {"stage": "StageImbalance", "replica": "ReplicaSlow"}
OWN, BLOCKED, ROLE = "gpu_job_own_seconds", "gpu_job_sync_blocked_ratio", "gpu_job_role"
PROBES = "uprobes on NCCL and CUDA"
LEAST = 1.05
"""From how many times as long as the others a whole is slow."""
AGREE = 1.15
"""Ranks of a stage agree where the longest of them needs at most so many times the shortest."""
WAIT_MORE = 0.02


def _job(scene: Scene, what: What, entity: str) -> str:
    """The job of the stage or replica: that of its alert."""
    return next((dict(a.labels).get("job", "") for a in scene.case.incident.alerts
                 if a.name == ALERTS[what] and dict(a.labels).get(what) == entity), "")


def _members(scene: Scene, what: What, job: str) -> dict[str, tuple[int, int]]:
    """Rank label to (its stage or replica, its stage)."""
    roles = {str(m.series.label("rank")): int(m.now) for m in scene.measures(ROLE, fixed=(("job", job),))
             if not math.isnan(m.now)}
    of = roles if what == "stage" else replicas(roles)
    return {rank: (number, roles[rank]) for rank, number in of.items()}


def _split(scene: Scene, name: str, what: What, entity: str) -> tuple[list[Measure], list[Measure]]:
    """(a series of the ranks of the whole, the same of the others)."""
    job = _job(scene, what, entity)
    members = _members(scene, what, job)
    every = [m for m in scene.measures(name, fixed=(("job", job),))
             if not math.isnan(m.now) and m.series.label("rank") in members]
    own = [m for m in every if str(members[str(m.series.label("rank"))][0]) == entity]
    return own, [m for m in every if m not in own]


def _middle(some: Iterable[Measure]) -> float:
    values = [m.now for m in some]
    return float(np.median(values)) if values else math.nan


def _said(some: list[Measure], claim: str, value: float) -> Evidence:
    first = some[0]
    return Evidence("", "series", claim, first.series.entity, first.series.key, first.window_ns, value,
                    first.series.unit, _middle_calm(some), math.nan, min(m.onset_ns for m in some),
                    min(m.coverage for m in some), PROBES)


def _middle_calm(some: list[Measure]) -> float:
    known = [m.baseline for m in some if not math.isnan(m.baseline)]
    return float(np.median(known)) if known else math.nan


def longer(what: What) -> Callable[[Scene, str], Outcome]:
    """A look whether the whole needs longer for its own part of an iteration than the others of its kind."""
    def look(scene: Scene, entity: str) -> Outcome:
        """Own time of the ranks of `entity` beside that of the others; unknown without ranks on either side."""
        own, others = _split(scene, OWN, what, entity)
        if not own or not others:
            return Outcome(None, missing(OWN, scene), "gpu jobs", OWN)
        mine, middle = _middle(own), _middle(others)
        claim = (f"own time of an iteration ({what} {clean(entity, 20)}): {humanise(mine, 'seconds')} on the median of "
                 f"{plural(len(own), 'rank')}, {humanise(middle, 'seconds')} on that of the "
                 f"{plural(len(others), 'rank')} of other {what}s")
        holds = mine >= LEAST * middle and _together(scene, what, entity, own, others)
        return Outcome(holds, _said(own, claim, mine), "gpu jobs", OWN)
    return look


def _together(scene: Scene, what: What, entity: str, own: list[Measure], others: list[Measure]) -> bool:
    """Whether it is the whole: the ranks of a stage agree; those of a replica are slow in every stage."""
    if what == "stage":
        return max(m.now for m in own) <= AGREE * min(m.now for m in own)
    members = _members(scene, what, _job(scene, what, entity))
    for one in own:
        stage = members[str(one.series.label("rank"))][1]
        peers = [m for m in others if members[str(m.series.label("rank"))][1] == stage]
        if peers and one.now < LEAST * _middle(peers):
            return False
    return True


def agree(scene: Scene, entity: str) -> Outcome:
    """Several ranks of a stage need as long as each other: the work is uneven, none of them is slow."""
    own, _ = _split(scene, OWN, "stage", entity)
    least, most = (f([m.now for m in own], default=math.nan) for f in (min, max))
    claim = (f"the {plural(len(own), 'rank')} of stage {clean(entity, 20)}: {humanise(least, 'seconds')} to "
             f"{humanise(most, 'seconds')}, as long as each other")
    held = len(own) > 1 and most <= AGREE * least
    return Outcome(held, fact(claim, scene, most, "seconds", PROBES, f"stage={entity}"), "gpu jobs", "agree")


def others_wait(what: What) -> Callable[[Scene, str], Outcome]:
    """A look whether the others spend more of the iteration in calls that wait than the ranks of the whole."""
    def look(scene: Scene, entity: str) -> Outcome:
        own, others = _split(scene, BLOCKED, what, entity)
        if not own or not others:
            return Outcome(None, missing(BLOCKED, scene), "gpu jobs", BLOCKED)
        mine, middle = _middle(own), _middle(others)
        claim = (f"waiting ({what} {clean(entity, 20)}): {humanise(mine, 'ratio')} of the iteration, "
                 f"{humanise(middle, 'ratio')} on the median of the other {what}s")
        return Outcome(middle - mine >= WAIT_MORE, _said(own, claim, mine), "gpu jobs", BLOCKED)
    return look
