"""Which rank of a stopped GPU job the others wait for: one that has ended, or the last that did not come."""

import math

from etio.core.report import Culprit
from rca.culprits import fact
from rca.evidence import Measure
from rca.scene import Scene
from rca.spec import Blame, Outcome
from rca.units import clean, humanise

PROBES = "uprobes on NCCL and CUDA"
EARLIER, LEAST_S = 0.2, 0.005
"""Of an iteration, and in seconds, that the last arrival of a rank must be before that of all others."""
STATES = {"T": "stopped by a signal", "t": "stopped by a debugger", "D": "waiting in the kernel", "Z": "ended"}


def _of(scene: Scene, name: str, job: str) -> dict[str, Measure]:
    """A series of every rank of the job, by rank."""
    return {m.series.label("rank") or "": m for m in scene.measures(name, fixed=(("job", job),))}


def _gone(scene: Scene, job: str) -> list[tuple[str, int]]:
    """Ranks that have ended while others are there, with their former process ids."""
    return [(rank, int(m.last)) for rank, m in _of(scene, "gpu_job_rank_gone", job).items() if m.last > 0]


def _latest(scene: Scene, job: str) -> tuple[str, float, float]:
    """(the rank whose last collective is longest ago, seconds that is before the others' last, ago); "" = none."""
    ago = sorted((m.last, rank) for rank, m in _of(scene, "gpu_job_silent_seconds", job).items()
                 if not math.isnan(m.last))
    if len(ago) < 2:
        return "", math.nan, math.nan
    usual = max((m.baseline for m in _of(scene, "gpu_job_iteration_seconds", job).values()
                 if not math.isnan(m.baseline)), default=math.nan)
    earlier = ago[-1][0] - ago[-2][0]
    least = max(LEAST_S, EARLIER * usual) if not math.isnan(usual) else 1.0
    return (ago[-1][1], earlier, ago[-1][0]) if earlier >= least else ("", earlier, ago[-1][0])


def ended(scene: Scene, entity: str) -> Outcome:
    """A rank of the job is not there any more."""
    gone = _gone(scene, entity)
    told = ", ".join(f"rank {clean(rank, 20)} (pid {pid})" for rank, pid in gone[:4])
    claim = f"ended: {told}, and the others are still there" if gone else "every rank of the job is still there"
    return Outcome(bool(gone), fact(claim, scene, math.nan, "", PROBES, f"job={entity}"), "gpu jobs", "ended")


def last_to_come(scene: Scene, entity: str) -> Outcome:
    """One rank began its last collective clearly before all others began theirs: it did not come to the next."""
    rank, earlier, ago = _latest(scene, entity)
    if math.isnan(earlier):
        return Outcome(None, fact("last collectives of the ranks: not known", scene, math.nan, "", PROBES), "gpu jobs",
                       "last")
    claim = (f"last collectives: rank {clean(rank, 20)} began its last one {humanise(ago, 'seconds')} ago, "
             f"{humanise(earlier, 'seconds')} before any other" if rank else
             "last collectives: all ranks began theirs together")
    return Outcome(bool(rank), fact(claim, scene, earlier, "seconds", PROBES, f"job={entity}"), "gpu jobs", "last")


def blame(scene: Scene, entity: str) -> Blame | None:
    """The rank that has ended, else the one that did not come; None where all came together."""
    gone, (rank, _, _) = _gone(scene, entity), _latest(scene, entity)
    if len(gone) == 1:
        rank, pid = gone[0]
        doing = "is gone"
    elif rank and not gone:
        held = _of(scene, "gpu_job_process_id", entity).get(rank)
        pid = int(held.last) if held is not None and not math.isnan(held.last) else 0
        doing = _doing(scene, pid)
    else:
        return None
    known = scene.census.process(pid)
    name = clean(known.comm if known else "", 40) or "its process"
    claim = f"It is rank {clean(rank, 20)}: {name} (pid {pid}) {doing}"
    where = (known.cgroup, known.unit) if known else ("", "")
    culprit = Culprit("process", f"rank {clean(rank, 20)}", 0 if gone else pid, *where, claim)
    of = f"job={entity}" if gone else f"pid={pid}"
    return Blame(culprit, fact(claim, scene, math.nan, "", PROBES, of), "gpu jobs")


def _doing(scene: Scene, pid: int) -> str:
    last = scene.census.last
    state = next((p.state for p in last.processes if p.pid == pid), "") if last else ""
    return f"is {STATES[state]}" if state in STATES else "is there and does something else"
