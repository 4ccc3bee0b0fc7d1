"""What is special about GPUs: siblings, and who holds them. XIDs: rca/gpu_xids.py.

Holders come as facts of the NVML collector: ("gpu process gpu=N pid=P", "comm: X; cgroup: C; memory: B bytes; ...").
"""

import math
import re
from dataclasses import dataclass, replace

from etio.core.evidence import Evidence
from etio.core.report import Culprit
from rca.conditions import missing, series_evidence
from rca.culprits import cpu_hog, disk_user, fact, gpu_itself
from rca.gpu_xids import EVENTS, Family, family_of
from rca.scene import Scene
from rca.spec import Blame, Outcome, Shown
from rca.units import clean, humanise

_KEY = re.compile(r"gpu process gpu=(\d{1,4}) pid=(\d{1,10})")
_BYTES = re.compile(r"(\d{1,18}) bytes")
NVML = "NVML"
BUSY, LEAST_SIBLINGS = 0.5, 2
USES, HALF, LESS = ("gpu_utilization_rhythm_ratio", "gpu_utilization_ratio"), 0.5, 0.7
MOST_USERS = 3

# -- siblings ----------------------------------------------------------------------------------------------------


def below_siblings(series: str, part: float) -> Shown:
    """A condition: a busy GPU's value is at most this part of the median of the other busy ones (two at least)."""

    def look(scene: Scene, entity: str) -> Outcome:
        """Unknown (None) with too few busy siblings; ratios and units are those of the series."""
        busy = {m.series.label("gpu") for m in scene.measures("gpu_utilization_ratio") if m.now >= BUSY}
        values = {m.series.label("gpu"): m for m in scene.measures(series) if not math.isnan(m.now)}
        others = sorted(m.now for gpu, m in values.items() if gpu in busy and gpu != entity)
        if entity not in values or len(others) < LEAST_SIBLINGS:
            claim = f"{clean(entity)}: fewer than {LEAST_SIBLINGS} other busy GPUs to compare with"
            return Outcome(None, Evidence("", "missing", claim, coverage=0.0, source=NVML), "siblings", "siblings")
        own, usual = values[entity], others[len(others) // 2]
        unit = own.series.unit
        claim = f"GPU {clean(entity)} has {humanise(own.now, unit)}, its siblings {humanise(usual, unit)}"
        evidence = Evidence("", "fact", claim, own.series.entity, "", own.window_ns, own.now, unit, usual,
                            onset_ns=own.onset_ns, coverage=own.coverage, source=NVML)
        return Outcome(entity in busy and own.now <= part * usual, evidence, "siblings", "siblings")

    return Shown(look)


def seldom_used(scene: Scene, entity: str) -> Outcome:
    """A GPU is in use half of the time at the most: over a minute where it comes and goes in a rhythm, else by its
    median now, and less than before."""
    rhythm, use = (next(iter(scene.measures(name, "gpu", entity)), None) for name in USES)
    if rhythm is not None and not math.isnan(rhythm.last):
        return Outcome(rhythm.last <= HALF, series_evidence(rhythm, rhythm.last), "nvml", USES[0])
    if use is None or math.isnan(use.now):
        return Outcome(None, missing(USES[1], scene), "nvml", USES[1])
    less = not use.now > LESS * use.baseline  # also where nothing is known of before
    return Outcome(use.now <= HALF and less, series_evidence(use, use.now), "nvml", USES[1], deviation=use.deviation)


# -- who holds a GPU ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Holder:
    """A process with a context on a GPU. memory_bytes: NaN where unknown. node, gpu_node: -1 where unknown."""

    gpu: str
    pid: int
    comm: str
    cgroup: str
    memory_bytes: float
    node: int
    gpu_node: int


def holders(scene: Scene, gpu: str = "") -> list[Holder]:
    """Processes on a GPU (on any where none is given), those with most memory first."""
    found = []
    for key, value in scene.facts.extra:
        known = _KEY.fullmatch(key)
        if known and gpu in ("", known[1]):
            words = dict(part.split(": ", 1) for part in value.split("; ") if ": " in part)
            size = _BYTES.fullmatch(words.get("memory", ""))
            found.append(Holder(known[1], int(known[2]), words.get("comm", ""), words.get("cgroup", ""),
                                float(size[1]) if size else math.nan, _number(words.get("runs on node", "")),
                                _number(words.get("gpu node", ""))))
    return sorted(found, key=lambda h: -h.memory_bytes if h.memory_bytes >= 0 else 0.0)


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else -1


def gpu_with_users(scene: Scene, entity: str) -> Blame:
    """The GPU itself, with those who work on it: they are the ones that suffer."""
    own, users = gpu_itself(scene, entity), holders(scene, entity)
    if not users:
        return own
    names = ", ".join(f"{clean(h.comm, 40) or 'a process'} (pid {h.pid})" for h in users[:MOST_USERS])
    more = f" and {len(users) - MOST_USERS} more" if len(users) > MOST_USERS else ""
    return _claiming(own, f"GPU {clean(entity)} itself; {names}{more} {'works' if len(users) == 1 else 'work'} on it")


def blame_holder(scene: Scene, entity: str) -> Blame:
    """Who holds most memory of the GPU; the GPU itself where nobody is known."""
    found = holders(scene, entity)
    if not found:
        claim = f"The driver lists no process of this host on GPU {clean(entity)}"
        return replace(_claiming(gpu_itself(scene, entity), claim), clear=False)
    top, others = found[0], len(found) - 1
    size = f" with {humanise(top.memory_bytes, 'bytes')}" if not math.isnan(top.memory_bytes) else ""
    more = f"; {others} more {'process' if others == 1 else 'processes'} there" if others else ""
    clear = not others or not top.memory_bytes < 1.5 * found[1].memory_bytes
    return _process(scene, top.pid, top.comm, top.cgroup, f"is on GPU {clean(entity)}{size}{more}", clear)


def blame_program(scene: Scene, entity: str) -> Blame:
    """Whose program met an XID, as the kernel log names it; else who holds the GPU."""
    pid, name = _named(scene, entity, "application")
    if not pid:
        return blame_holder(scene, entity)
    held = next((h for h in holders(scene, entity) if h.pid == pid), None)
    comm, cgroup = (held.comm or name, held.cgroup) if held else (name, "")
    return _process(scene, pid, comm, cgroup, f"is named by the driver with the XID of GPU {clean(entity)}")


def _named(scene: Scene, entity: str, family: Family) -> tuple[int, str]:
    """The process that the kernel log names with an XID of that family, and its name; 0 where it names none."""
    told = [(event.get("pid"), str(event.get("program") or "")) for event in scene.happened(EVENTS, "gpu", entity)
            if family_of(event) == family]
    return next(((pid, name) for pid, name in told if isinstance(pid, int)), (0, ""))


def gpu_with_victim(scene: Scene, entity: str) -> Blame:
    """The GPU itself, with the program that its memory error ended; without one, with those who work on it."""
    pid, told = _named(scene, entity, "contained")
    if not pid:
        return gpu_with_users(scene, entity)
    known = scene.census.process(pid)
    name = (known.comm if known else "") or told or "a program"
    return _claiming(gpu_itself(scene, entity), f"GPU {clean(entity)} itself; its error stopped {clean(name, 40)} "
                                                f"(pid {pid}), no other program")


def _claiming(blame: Blame, claim: str) -> Blame:
    return replace(blame, culprit=replace(blame.culprit, claim=claim), evidence=replace(blame.evidence, claim=claim))


def blame_feeder(scene: Scene, entity: str) -> Blame | None:
    """Who takes what the GPU's input needs: the disk where I/O is short, else the CPU."""
    waits = {name: scene.value(f"pressure_{name}_some_ratio") for name in ("io", "cpu")}
    found = (disk_user(scene, "") if waits["io"] >= waits["cpu"] else cpu_hog(scene, "")) or cpu_hog(scene, "")
    if found is None or not any(_same(found.culprit, holder) for holder in holders(scene, entity)):
        return found
    claim = f"{found.culprit.claim}: that is what works on GPU {clean(entity)} itself"
    return replace(_claiming(found, claim), clear=False)


def _same(culprit: Culprit, holder: Holder) -> bool:
    """Whether a culprit is the program on a GPU, or a helper of it in the same group."""
    return culprit.pid == holder.pid or (culprit.cgroup == holder.cgroup and holder.cgroup not in ("", "/"))


def _process(scene: Scene, pid: int, comm: str, cgroup: str, did: str, clear: bool = True) -> Blame:
    known = scene.census.process(pid)
    name = clean((known.comm if known else "") or comm or "a process", 60)
    group, unit = (known.cgroup, known.unit) if known else (cgroup, "")
    where = f" in {clean(unit or group, 60)}" if (unit or group) not in ("", "/") else ""
    gone = ", which has ended and was not collected by its parent," if known and known.state == "Z" else ""
    claim = f"{name} (pid {pid}){where}{gone} {did}"
    culprit = Culprit("process", name, pid, group, unit, claim)
    return Blame(culprit, fact(claim, scene, math.nan, "", NVML, f"pid={pid}"), "nvml processes", clear)
