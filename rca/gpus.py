"""What is special about GPUs: families of XIDs, siblings, and who holds them.

XIDs after NVIDIA's catalog (docs.nvidia.com/deploy/xid-errors): a number says who has to act, the author of the program
or whoever services the machine. Holders come as facts of the NVML collector: ("gpu process gpu=N pid=P", "comm: X;
cgroup: C; memory: B bytes; ...").
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from etio.core.event import HostEvent
from etio.core.evidence import Evidence
from etio.core.report import Culprit
from rca.culprits import cpu_hog, disk_user, fact, gpu_itself
from rca.scene import Scene
from rca.spec import Blame, Outcome, Shown
from rca.units import clean, clock, humanise

Family = Literal["application", "memory", "nvlink", "lost", "firmware", "other"]

XIDS: Mapping[int, tuple[Family, str]] = {
    8: ("application", "the GPU did not finish in time"), 13: ("application", "exception in a kernel of the program"),
    31: ("application", "the program used memory that is not its own"),
    32: ("application", "broken commands from the program"), 43: ("application", "the program's channel was stopped"),
    45: ("application", "channels removed after another error"), 69: ("application", "a wrong use of the engine"),
    48: ("memory", "a memory error that was not corrected"), 63: ("memory", "a memory row is to be replaced"),
    64: ("memory", "a memory row could not be replaced"), 92: ("memory", "many corrected memory errors"),
    94: ("memory", "a memory error that only one program met"),
    95: ("memory", "a memory error that any program may meet"),
    140: ("memory", "a memory error that was not recovered"), 156: ("memory", "memory taken out of use"),
    157: ("memory", "memory could not be taken out of use"), 160: ("memory", "a memory channel taken out of use"),
    161: ("memory", "a memory channel could not be taken out of use"), 171: ("memory", "a memory error in DRAM"),
    172: ("memory", "a memory error in SRAM"),
    74: ("nvlink", "an error of NVLink"), 136: ("nvlink", "an NVLink that does not come up"),
    137: ("nvlink", "an access over NVLink that failed"),
    **{n: ("nvlink", "an error of NVLink") for n in range(144, 151)},
    79: ("lost", "the GPU has fallen off the bus"),
    46: ("firmware", "the GPU does not answer"), 62: ("firmware", "a controller of the GPU halted"),
    109: ("firmware", "the GPU does not change contexts"),
    119: ("firmware", "the GPU's system processor does not answer"),
    120: ("firmware", "the GPU's system processor failed"), 143: ("firmware", "the GPU did not start"),
    158: ("firmware", "the GPU does not answer"),
}
_KEY = re.compile(r"gpu process gpu=(\d{1,4}) pid=(\d{1,10})")
_BYTES = re.compile(r"(\d{1,18}) bytes")
NVML = "NVML"
EVENTS = ("gpu_xid", "gpu_program_xid", "gpu_lost")
BUSY, LEAST_SIBLINGS = 0.5, 2
MOST_USERS = 3


def family_of(event: HostEvent) -> Family:
    """Who has to act, after the number of an XID."""
    if event.kind == "gpu_lost":
        return "lost"
    number = event.get("xid")
    return XIDS.get(int(number), ("other", ""))[0] if isinstance(number, (int, float)) else "other"


def xid(*families: Family) -> Shown:
    """A condition: an XID of one of these families on the GPU in question; its name is gpu_xid."""

    def look(scene: Scene, entity: str) -> Outcome:
        """Met where one of them happened in the window; never unknown."""
        every = scene.happened(EVENTS, "gpu", entity)
        events = [e for e in every if family_of(e) in families]
        return _told(events) if events else _untold(families)

    return Shown(look)


def _told(events: Sequence[HostEvent]) -> Outcome:
    first = events[0]
    numbers = sorted({int(n) for e in events if isinstance(n := e.get("xid"), (int, float))})
    words = ", ".join(f"XID {n} ({XIDS[n][1]})" if n in XIDS else f"XID {n}" for n in numbers[:4])
    told = words or "the GPU no longer answers"
    times = f", {len(events)} times" if len(events) > 1 else ""
    claim = f"{told} at {clock(first.t_ns)} ({clean(first.entity)}){times}"
    evidence = Evidence("", "event", claim, first.entity, "", (first.t_ns, events[-1].t_ns), float(len(events)), "1",
                        onset_ns=first.t_ns, source=first.source or "host events")
    return Outcome(True, evidence, "events", "gpu_xid")


def _untold(families: Sequence[Family]) -> Outcome:
    claim = f"no XID of this kind ({', '.join(families)}) was reported"
    return Outcome(False, Evidence("", "event", claim, source="host events"), "events", "gpu_xid")


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
    claim = f"GPU {clean(entity)} itself; {names}{more} {'works' if len(users) == 1 else 'work'} on it"
    return replace(own, culprit=replace(own.culprit, claim=claim), evidence=replace(own.evidence, claim=claim))


def blame_holder(scene: Scene, entity: str) -> Blame:
    """Who holds most memory of the GPU; the GPU itself where nobody is known."""
    found = holders(scene, entity)
    if not found:
        return gpu_itself(scene, entity)
    top, others = found[0], len(found) - 1
    size = f" with {humanise(top.memory_bytes, 'bytes')}" if not math.isnan(top.memory_bytes) else ""
    more = f"; {others} more {'process' if others == 1 else 'processes'} there" if others else ""
    clear = not others or not top.memory_bytes < 1.5 * found[1].memory_bytes
    return _process(scene, top.pid, top.comm, top.cgroup, f"is on GPU {clean(entity)}{size}{more}", clear)


def blame_program(scene: Scene, entity: str) -> Blame:
    """Whose program met an XID, as the kernel log names it; else who holds the GPU."""
    for event in scene.happened(("gpu_program_xid", "gpu_xid"), "gpu", entity):
        pid = event.get("pid")
        if isinstance(pid, int) and family_of(event) == "application":
            held = next((h for h in holders(scene, entity) if h.pid == pid), None)
            comm, cgroup = (held.comm, held.cgroup) if held else ("", "")
            return _process(scene, pid, comm, cgroup, f"is named by the driver with the XID of GPU {clean(entity)}")
    return blame_holder(scene, entity)


def blame_feeder(scene: Scene, entity: str) -> Blame | None:
    """Who takes what the GPU's input needs: the disk where I/O is short, else the CPU."""
    waits = {name: scene.value(f"pressure_{name}_some_ratio") for name in ("io", "cpu")}
    return (disk_user(scene, "") if waits["io"] >= waits["cpu"] else cpu_hog(scene, "")) or cpu_hog(scene, "")


def _process(scene: Scene, pid: int, comm: str, cgroup: str, did: str, clear: bool = True) -> Blame:
    known = scene.census.process(pid)
    name = clean((known.comm if known else "") or comm or f"pid {pid}", 60)
    group, unit = (known.cgroup, known.unit) if known else (cgroup, "")
    where = f" in {clean(unit or group, 60)}" if (unit or group) not in ("", "/") else ""
    claim = f"{name} (pid {pid}){where} {did}"
    culprit = Culprit("process", name, pid, group, unit, claim)
    return Blame(culprit, fact(claim, scene, math.nan, "", NVML, f"pid={pid}"), "nvml processes", clear)
