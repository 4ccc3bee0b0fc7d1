"""From the operations of a training job to the own-compute time of each rank in each step.

Only what a rank computes itself counts: sends, receives and collectives wait for others, and so does the step as a
whole (with one worker at less than half speed, the step times of all ranks agree to 1 in 10,000). What is left is
divided by the work: the mean per operation of one kind, not the sum, so that ranks with another number of
micro-batches can be compared, and only over the kinds that the peers of one role ran in that step.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detectors.straggler_statistics import groups_of
from etio.core.frame import Floats

Labels = NDArray[np.object_]
OWN_COMPUTE = "-compute"
"""What the operations that wait for nobody are called, at their end: forward-compute, backward-compute."""


@dataclass(frozen=True, slots=True)
class Member:
    """One rank of a job. stage: its role (pipeline stage; same stage = same work). replica: whose data it works on
    (data-parallel rank; its members in all stages see the same micro-batches), None where that is unknown."""

    rank: int
    stage: int = 0
    replica: int | None = None


@dataclass(frozen=True, slots=True)
class Operations:
    """Finished operations as columns of one length: who, in which step, of which kind, how long in seconds."""

    member: NDArray[np.intp]
    step: NDArray[np.int64]
    kind: Labels
    seconds: Floats


@dataclass(frozen=True, slots=True)
class Work:
    """members[n]; steps int64[k] ascending; seconds float64[k, n]: own-compute time per unit of work, NaN = unknown."""

    members: tuple[Member, ...]
    steps: NDArray[np.int64]
    seconds: Floats


def own_compute(members: tuple[Member, ...], operations: Operations) -> Work:
    """Own-compute seconds of each rank and step: the sum over kinds of the mean duration.

    A rank that lacks a kind which most peers of its stage ran in that step is unknown there: part of its record is
    missing, and a part cannot be held against a whole. Durations that are not finite and positive are left out.

    >>> kinds = np.array(["forward-compute", "forward-compute", "forward-send"], dtype=object)
    >>> one = Operations(np.zeros(3, dtype=np.intp), np.zeros(3, dtype=np.int64), kinds, np.array([1.0, 3.0, 9.0]))
    >>> own_compute((Member(0),), one).seconds.tolist()
    [[2.0]]
    """
    own = np.array([str(k).split("/")[0].endswith(OWN_COMPUTE) for k in operations.kind], dtype=bool)
    own &= np.isfinite(operations.seconds) & (operations.seconds > 0)
    steps, step = np.unique(operations.step, return_inverse=True)
    kinds, kind = np.unique(operations.kind[own].astype(str), return_inverse=True)
    shape = (len(steps), len(members), len(kinds))
    place = np.ravel_multi_index((step[own], operations.member[own], kind), shape) if len(kinds) else step[:0]
    size = int(np.prod(shape))
    count = np.bincount(place, minlength=size).reshape(shape)
    total = np.bincount(place, operations.seconds[own], minlength=size).reshape(shape)
    mean = total / np.maximum(count, 1)
    seconds = np.where(_complete(members, count > 0), mean.sum(axis=2), np.nan)
    return Work(members, steps.astype(np.int64), seconds)


def _complete(members: tuple[Member, ...], ran: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Who ran, in each step, every kind that most of its stage ran; ran: bool[k, n, kinds], result bool[k, n]."""
    complete: NDArray[np.bool_] = np.asarray(ran.any(axis=2))
    for row in groups_of([m.stage for m in members]):
        group = row[row >= 0]
        present = ran[:, group].any(axis=2).sum(axis=1)
        usual = 2 * ran[:, group].sum(axis=1) > present[:, None]
        complete[:, group] &= (ran[:, group] | ~usual[:, None, :]).all(axis=2)
    return complete
