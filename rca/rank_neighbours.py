"""What a rank of a GPU job has beside it that its peers have not: a stranger on its GPU, or a GPU on another node."""

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

from etio.core.evidence import Evidence
from etio.core.report import Culprit
from rca.conditions import series_evidence
from rca.culprits import fact
from rca.gpus import NVML, Holder, holders
from rca.numa import SOURCE, placed
from rca.scene import Scene
from rca.spec import Blame, Outcome
from rca.units import clean, humanise


@dataclass(frozen=True, slots=True)
class Place:
    """One rank: its name, process and GPU ("" = unknown). peers: GPUs of the other ranks. pids: of all ranks."""

    rank: str
    pid: int
    gpu: str
    peers: Collection[str]
    pids: Collection[int]


def _strangers(scene: Scene, place: Place, gpu: str) -> list[Holder]:
    """Who is on a GPU and has nothing to do with the job: no rank, no helper of one, nobody of the same group."""
    own = {p.cgroup for pid in place.pids if (p := scene.census.process(pid)) and p.cgroup not in ("", "/")}
    found = []
    for holder in holders(scene, gpu):
        known = scene.census.process(holder.pid)
        family = holder.pid in place.pids or (known is not None and known.ppid in place.pids)
        if not family and (holder.cgroup or (known.cgroup if known else "")) not in own:
            found.append(holder)
    return found


def shared(scene: Scene, place: Place) -> Outcome:
    """Somebody else works on its GPU, and on none of its peers'."""
    if not place.gpu or not holders(scene, place.gpu):
        return _unknown(scene, "who is on the GPUs: not known", "guest")
    guests = _strangers(scene, place, place.gpu)
    if not guests or any(_strangers(scene, place, gpu) for gpu in place.peers):
        return Outcome(False, fact("nobody else is on its GPU alone", scene, math.nan, "", NVML), "nvml", "guest")
    return Outcome(True, _counted(scene, "gpu_processes", place.gpu, _claim(guests[0], place)), "nvml", "guest")


def _counted(scene: Scene, series: str, gpu: str, claim: str) -> Evidence:
    """The claim, carried by that series of the GPU where it is there."""
    found = [m for m in scene.measures(series, "gpu", gpu) if not math.isnan(m.last)]
    return replace(series_evidence(found[0], found[0].last), claim=claim) if found else fact(
        claim, scene, math.nan, "", NVML)


def _claim(guest: Holder, place: Place) -> str:
    size = "" if math.isnan(guest.memory_bytes) else f" with {humanise(guest.memory_bytes, 'bytes')}"
    return (f"{clean(guest.comm, 40) or 'a process'} (pid {guest.pid}) is on GPU {place.gpu}{size} beside rank "
            f"{clean(place.rank, 20)}, and on no GPU of its peers")


def blame_guest(scene: Scene, place: Place) -> Blame:
    """The stranger with most memory on the rank's GPU."""
    guest = _strangers(scene, place, place.gpu)[0]
    known = scene.census.process(guest.pid)
    group, unit = (known.cgroup, known.unit) if known else (guest.cgroup, "")
    claim = _claim(guest, place)
    culprit = Culprit("process", clean(guest.comm, 60) or f"pid {guest.pid}", guest.pid, group, unit, claim)
    return Blame(culprit, fact(claim, scene, math.nan, "", NVML, f"pid={guest.pid}"), "nvml")


def far(scene: Scene, place: Place) -> Outcome:
    """It, or a helper of it, runs away from its GPU or its memory, and no peer does."""
    known = [h for h in holders(scene) if h.pid in place.pids and h.node >= 0 and h.gpu_node >= 0]
    away = {h.pid: h for h in known if h.node != h.gpu_node}
    if place.pid in away and len(away) == 1 and len(known) > 1:
        one = away[place.pid]
        claim = (f"place of rank {clean(place.rank, 20)} (pid {one.pid}): it runs on NUMA node {one.node}, its GPU "
                 f"{one.gpu} sits on node {one.gpu_node}, and its peers run beside theirs")
        return Outcome(True, _counted(scene, "gpu_processes_far", place.gpu, claim), "placement", "far")
    for process in placed(scene):
        seen = scene.census.process(process.pid)
        if process.away and (process.pid == place.pid or (seen is not None and seen.ppid == place.pid)):
            claim = (f"place of {clean(process.comm, 40)} (pid {process.pid}) of rank {clean(place.rank, 20)}: it runs "
                     f"on NUMA node {process.home}, {humanise(process.away_bytes, 'bytes')} of its memory lie away")
            return Outcome(True, fact(claim, scene, math.nan, "", SOURCE, f"pid={process.pid}"), "placement", "far")
    if not known:
        return _unknown(scene, "NUMA nodes of the ranks and their GPUs: not known", "far")
    return Outcome(False, fact("it runs beside its GPU, or its peers do not either", scene, math.nan, "", "sysfs"),
                   "placement", "far")


def _unknown(scene: Scene, claim: str, name: str) -> Outcome:
    return Outcome(None, fact(claim, scene, math.nan, "", NVML), name, name)
