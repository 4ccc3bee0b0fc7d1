"""One rank of a GPU job computes longer than the others, which wait for it at every collective."""

import math

import numpy as np

from etio.core.evidence import Evidence
from etio.core.report import Culprit
from rca.conditions import missing
from rca.culprits import CLEAR, TABLES, describe, fact
from rca.evidence import Measure
from rca.rank_neighbours import Place, blame_guest, far, shared
from rca.scene import Scene
from rca.spec import Blame, CauseSpec, Outcome, Shown, Table
from rca.units import clean, humanise
from rca.who import Group

OWN, BLOCKED, LATE = "gpu_job_own_seconds", "gpu_job_sync_blocked_ratio", "gpu_job_arrival_lateness_seconds"
PROBES = "uprobes on NCCL and CUDA"
WAITS = 0.03
"""Seconds a second for which a rank waits for a CPU, from which that is a reason."""
HOG = 0.3
"""Cores from which a process can be what takes the rank's core."""


def _job(scene: Scene, rank: str) -> str | None:
    """The job of the rank: that of its alert."""
    return next((dict(a.labels).get("job") for a in scene.case.incident.alerts
                 if a.name == "RankStraggling" and dict(a.labels).get("rank") == rank), None)


def _split(scene: Scene, name: str, rank: str) -> tuple[Measure | None, list[Measure]]:
    """(a series of the rank, the same of the other ranks of its job with the same role)."""
    job = _job(scene, rank)
    roles = {m.series.label("rank"): m.now for m in scene.measures("gpu_job_role", fixed=(("job", job or ""),))}
    every = [m for m in scene.measures(name, fixed=(("job", job or ""),)) if not math.isnan(m.now)]
    own = next((m for m in every if m.series.label("rank") == rank), None)
    return own, [m for m in every if m is not own and roles.get(m.series.label("rank")) == roles.get(rank)]


def _middle(peers: list[Measure]) -> float:
    return float(np.median([m.now for m in peers])) if peers else math.nan


def _said(measure: Measure, claim: str) -> Evidence:
    series = measure.series
    return Evidence("", "series", claim, series.entity, series.key, measure.window_ns, measure.now, series.unit,
                    measure.baseline, math.nan, measure.onset_ns, measure.coverage, PROBES)


def _longer(scene: Scene, entity: str) -> Outcome:
    """Its own time of an iteration is above that of its peers, or above what it was."""
    own, peers = _split(scene, OWN, entity)
    if own is None:
        return Outcome(None, missing(OWN, scene), "gpu jobs", OWN)
    middle = _middle(peers)
    than = [x for x in (middle, own.baseline) if x > 0]
    told = f", {humanise(middle, 'seconds')} on the median of its {len(peers)} peers" if peers else ""
    claim = f"own time of an iteration (rank {clean(entity, 20)}): {humanise(own.now, 'seconds')}{told}"
    return Outcome(any(own.now >= 1.03 * x for x in than), _said(own, claim), "gpu jobs", OWN, deviation=own.deviation)


def _others_wait(scene: Scene, entity: str) -> Outcome:
    """The others spend more of the iteration in calls that wait than it does."""
    own, peers = _split(scene, BLOCKED, entity)
    if own is None or not peers:
        return Outcome(None, missing(BLOCKED, scene), "gpu jobs", BLOCKED)
    middle = _middle(peers)
    claim = (f"waiting (rank {clean(entity, 20)}): {humanise(own.now, 'ratio')} of the iteration, "
             f"{humanise(middle, 'ratio')} on the median of its peers")
    return Outcome(middle - own.now >= 0.02, _said(own, claim), "gpu jobs", BLOCKED)


def _late(scene: Scene, entity: str) -> Outcome:
    """It comes to collectives after the others."""
    own, _ = _split(scene, LATE, entity)
    if own is None:
        return Outcome(None, missing(LATE, scene), "gpu jobs", LATE)
    claim = f"arrival at collectives (rank {clean(entity, 20)}): {humanise(own.now, 'seconds')} after the others"
    return Outcome(own.now >= 5e-4, _said(own, claim), "gpu jobs", LATE)


def _pid(scene: Scene, entity: str) -> int:
    own, _ = _split(scene, "gpu_job_process_id", entity)
    return int(own.now) if own is not None else 0


def _pids(scene: Scene, entity: str) -> set[int]:
    """Process ids of all ranks of the job."""
    fixed = (("job", _job(scene, entity) or ""),)
    return {int(m.now) for m in scene.measures("gpu_job_process_id", fixed=fixed) if not math.isnan(m.now)}


def _delay(scene: Scene, entity: str) -> float:
    """Seconds a second that the rank waits for a CPU; NaN where that is not known."""
    pid = _pid(scene, entity)
    return next((m.run_delay for g in scene.census.groups for m in g.members if m.process.pid == pid), math.nan)


def _core_taken(scene: Scene, entity: str) -> Outcome:
    """It is ready to run and does not get its CPU."""
    delay = _delay(scene, entity)
    claim = f"rank {clean(entity, 20)} (pid {_pid(scene, entity)}) waited for a CPU: {humanise(delay, 'seconds/s')}"
    evidence = fact(claim, scene, delay, "seconds/s", TABLES, f"pid={_pid(scene, entity)}")
    return Outcome(None if math.isnan(delay) else delay >= WAITS, evidence, "processes", "core")


def _group_of(scene: Scene, entity: str) -> str:
    known = scene.census.process(_pid(scene, entity))
    return known.cgroup if known else ""


def _throttled(scene: Scene, entity: str) -> Outcome:
    """Its control group, or one above, is held back by its CPU quota."""
    own, name = _group_of(scene, entity), "cgroup_cpu_throttled_ratio"
    found = [m for m in scene.measures(name)
             if own and (own + "/").startswith(str(m.series.label("cgroup")).rstrip("/") + "/")]
    if not found:
        return Outcome(None, missing(name, scene), "cgroup", "quota")
    worst = max(found, key=lambda m: m.now)
    claim = (f"CPU quota of {clean(str(worst.series.label('cgroup')), 60)}: rank {clean(entity, 20)} was stopped in "
             f"{humanise(worst.now, 'ratio')} of the scheduling periods")
    return Outcome(worst.now >= 0.1, _said(worst, claim), "cgroup", "quota", deviation=worst.deviation)


def _gpu(scene: Scene, entity: str) -> str:
    own, _ = _split(scene, "gpu_job_gpu_index", entity)
    return "" if own is None else str(int(own.now))


def _slow_clock(scene: Scene, entity: str) -> Outcome:
    """Its GPU runs at a lower clock than the others."""
    name, gpu = "gpu_sm_clock_hertz", _gpu(scene, entity)
    every = [m for m in scene.measures(name) if not math.isnan(m.now)]
    own = next((m for m in every if gpu and m.series.label("gpu") == gpu), None)
    middle = _middle([m for m in every if m is not own])
    if own is None or math.isnan(middle):
        return Outcome(None, missing(name, scene), "nvml", "clock")
    claim = (f"SM clock of GPU {gpu}: {humanise(own.now, 'hertz')}, "
             f"{humanise(middle, 'hertz')} on the median of the other GPUs")
    return Outcome(own.now <= 0.93 * middle, _said(own, claim), "nvml", "clock", deviation=own.deviation)


def _place(scene: Scene, entity: str) -> Place:
    _, peers = _split(scene, "gpu_job_gpu_index", entity)
    own = _gpu(scene, entity)
    return Place(entity, _pid(scene, entity), own, {str(int(m.now)) for m in peers} - {own}, _pids(scene, entity))


def _guest(scene: Scene, entity: str) -> Outcome:
    """Somebody else is on its GPU alone."""
    return shared(scene, _place(scene, entity))


def _far(scene: Scene, entity: str) -> Outcome:
    """It runs away from its GPU or its memory, alone among its peers."""
    return far(scene, _place(scene, entity))


def blame(scene: Scene, entity: str) -> Blame:
    """What holds the rank back where that can be seen, else the rank itself."""
    if (clock := _slow_clock(scene, entity)).holds:
        culprit = Culprit("device", f"GPU {_gpu(scene, entity)}", _pid(scene, entity), claim=clock.evidence.claim)
        return Blame(culprit, clock.evidence, "nvml")
    if (quota := _throttled(scene, entity)).holds:
        path = dict(p.split("=", 1) for p in quota.evidence.entity.split(",") if "=" in p).get("cgroup", "")
        culprit = Culprit("cgroup", clean(path, 200), _pid(scene, entity), path, claim=quota.evidence.claim)
        return Blame(culprit, quota.evidence, "cgroup")
    if _core_taken(scene, entity).holds and (taker := _taker(scene, entity)) is not None:
        return taker
    if _guest(scene, entity).holds:
        return blame_guest(scene, _place(scene, entity))
    return _itself(scene, entity)


def _taker(scene: Scene, entity: str) -> Blame | None:
    """Who uses most CPU beside the job while the rank waits for one."""
    ranks = _pids(scene, entity)
    others: list[Group] = [g for g in scene.census.ranked("cpu_cores")
                           if not ranks & {m.process.pid for m in g.members} and g.total("cpu_cores") >= HOG]
    if not others:
        return None
    top, used = others[0], others[0].total("cpu_cores")
    clear = len(others) == 1 or used >= CLEAR * others[1].total("cpu_cores")
    claim = (f"{describe(top)} used {humanise(used, 'cores')} while rank {clean(entity, 20)} "
             f"(pid {_pid(scene, entity)}) waited for a CPU {humanise(_delay(scene, entity), 'seconds/s')}")
    culprit = Culprit("process", clean(top.name, 60), top.pid, top.cgroup, top.unit, claim)
    return Blame(culprit, fact(claim, scene, used, "cores", TABLES, f"pid={top.pid}"), "processes", clear)


def _itself(scene: Scene, entity: str) -> Blame:
    pid = _pid(scene, entity)
    known = scene.census.process(pid)
    name, where = (known.comm, (known.cgroup, known.unit)) if known else (f"rank {entity}", ("", ""))
    alone = "" if _far(scene, entity).holds else "; nothing else on this host was seen to hold it back"
    claim = (f"It is rank {clean(entity, 20)} of job {clean(_job(scene, entity) or 'unknown', 40)}: "
             f"{clean(name, 40)} (pid {pid}){alone}")
    culprit = Culprit("process", clean(name, 60), pid, *where, claim)
    return Blame(culprit, fact(claim, scene, math.nan, "", PROBES, f"pid={pid}"), "gpu jobs")


CAUSE = CauseSpec(
    id="slow_rank",
    title="a slow rank of a GPU job",
    mechanism="One rank computes longer than its peers; all others wait for it at the next collective, at its pace.",
    source="Lin et al. 2025, what-if analysis of stragglers (arXiv 2505.05713); Greyhound (arXiv 2410.12588)",
    alerts=("RankStraggling",),
    tables=(Table(
        label="rank",
        needs=((Shown(_longer, (OWN, "gpu_job_role")),),),
        supports=(
            Shown(_core_taken, ("gpu_job_process_id",)), Shown(_throttled, ("cgroup_cpu_throttled_ratio",)),
            Shown(_slow_clock, ("gpu_job_gpu_index", "gpu_sm_clock_hertz")), Shown(_others_wait, (BLOCKED,)),
            Shown(_late, (LATE,)), Shown(_guest, ("gpu_processes",)), Shown(_far, ("gpu_processes_far",)),
        ),
    ),),
    headlines=("Rank {entity} of a GPU job is slow and holds the others up",),
    summary=(
        "Rank {entity} needs {gpu_job_own_seconds:told} {gpu_job_own_seconds:ref}.",
        "The others wait for it: {gpu_job_sync_blocked_ratio:told} {gpu_job_sync_blocked_ratio:ref}.",
        "It comes to collectives {gpu_job_arrival_lateness_seconds} after them "
        "{gpu_job_arrival_lateness_seconds:ref}.",
        "{far:said} {far:ref}.",
        "{claim} {blame:ref}.",
    ),
    tell_apart="with the own time of every rank (collector gpu_jobs), its CPU wait, its quota and the clock of its GPU",
    specific=3,
    blame=blame,
    culprit_needed=False,
)
