"""Jobs that have come to a stop: no rank has begun a collective for many times as long as an iteration takes.

The ranks that came to the last collective wait in it, for as long as the one that did not come stays away.
"""

import math
from collections.abc import Mapping, Sequence

from collector.gpu_job_steps import Rank

PERIODS = 20.0
"""Iterations without any collective from which a job has stopped; a pause for a checkpoint is shorter, or told."""
LEAST_RANKS = 2


class Stalls:
    """Remembers the ranks that each job had on this host: one that died leaves the others waiting."""

    def __init__(self) -> None:
        self._had: dict[str, dict[str, int]] = {}

    def of(self, jobs: Mapping[str, Sequence[Rank]], now_ns: int) -> tuple[dict[Rank, float], dict[str, float]]:
        """(seconds since the last collective of each rank, seconds since the last one of each job that has stopped:
        0 while it goes on, none where its iterations are not known)."""
        self._had = {job: {**self._had.get(job, {}), **{rank.name.rank: rank.pid for rank in ranks}}
                     for job, ranks in jobs.items()}
        silent = {rank: max(0.0, (now_ns - rank.last_ns) / 1e9) for ranks in jobs.values() for rank in ranks
                  if rank.last_ns}
        return silent, {job: stopped for job, ranks in jobs.items()
                        if len(self._had[job]) >= LEAST_RANKS and not math.isnan(stopped := _stopped(ranks, silent))}


    def gone(self, jobs: Mapping[str, Sequence[Rank]]) -> dict[tuple[str, str], int]:
        """(job, rank) to the former process id of ranks that have ended while others of their job are there."""
        return {(job, name): pid for job, ranks in jobs.items() for name, pid in self._had.get(job, {}).items()
                if name not in {rank.name.rank for rank in ranks}}


def _stopped(ranks: Sequence[Rank], silent: Mapping[Rank, float]) -> float:
    usual = [rank.usual_s for rank in ranks if not math.isnan(rank.usual_s)]
    known = [silent[rank] for rank in ranks if rank in silent]
    if not usual or not known:
        return math.nan
    return min(known) if min(known) >= PERIODS * max(usual) else 0.0
