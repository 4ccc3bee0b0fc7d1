"""What the XIDs of a GPU mean and who has to act, and what its driver asks for.

Source: NVIDIA Xid catalog (docs.nvidia.com/deploy/xid-errors): the action that it names for each number; NVIDIA, GPU
memory error management; nvml.h (nvmlDeviceGpuRecoveryAction_t).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from etio.core.event import HostEvent
from etio.core.evidence import Evidence
from rca.conditions import missing, series_evidence
from rca.scene import Scene
from rca.spec import Outcome, Shown
from rca.units import clean, clock

Family = Literal["application", "contained", "memory", "uncontained", "repair", "unrepaired", "corrected", "nvlink",
                 "lost", "firmware", "other"]

XIDS: Mapping[int, tuple[Family, str]] = {
    8: ("application", "the GPU did not finish in time"), 13: ("application", "exception in a kernel of the program"),
    31: ("application", "the program used memory that is not its own"),
    32: ("application", "broken commands from the program"), 43: ("application", "the program's channel was stopped"),
    45: ("application", "channels of a program that was ended"), 69: ("application", "a wrong use of the engine"),
    48: ("memory", "a memory error that was not corrected"),
    63: ("repair", "memory is to be replaced at the next reset"),
    64: ("unrepaired", "memory could not be replaced"), 92: ("corrected", "many corrected memory errors"),
    94: ("contained", "a memory error that only one program met"),
    95: ("uncontained", "a memory error that any program may meet"),
    140: ("uncontained", "a memory error that was not recovered"), 156: ("repair", "memory is to be taken out of use"),
    157: ("unrepaired", "memory could not be taken out of use"),
    160: ("memory", "a memory channel taken out of use"),
    161: ("memory", "a memory channel could not be taken out of use"), 171: ("memory", "a memory error in DRAM"),
    172: ("memory", "a memory error in SRAM"),
    74: ("nvlink", "an error of NVLink"), 136: ("nvlink", "an NVLink that does not come up"),
    137: ("nvlink", "an access over NVLink that failed"),
    **{n: ("nvlink", "an error of NVLink") for n in range(144, 151)},
    121: ("corrected", "a corrected error of the link to the CPU"),
    154: ("other", "the driver asks for another recovery than before"),
    79: ("lost", "the GPU has fallen off the bus"),
    46: ("firmware", "the GPU does not answer"), 62: ("firmware", "a controller of the GPU halted"),
    109: ("firmware", "the GPU does not change contexts"),
    119: ("firmware", "the GPU's system processor does not answer"),
    120: ("firmware", "the GPU's system processor failed"), 143: ("firmware", "the GPU did not start"),
    158: ("firmware", "the GPU does not answer"),
}
EVENTS = ("gpu_xid", "gpu_minor_xid", "gpu_program_xid", "gpu_lost")
"""Kinds of events that speak of an error of one GPU."""
ACTIONS: Mapping[int, str] = {
    1: "a reset of the GPU", 2: "a restart of the machine", 3: "that jobs which use its links to other GPUs end",
    4: "that its jobs end, and a reset of the GPU then", 5: "that the links between hosts (IMEX) are set up anew",
    6: "a reset of its PCIe slot", 7: "a restart of the whole system",
}
"""nvmlDeviceGpuRecoveryAction_t in words; 0 is nothing."""


def family_of(event: HostEvent) -> Family:
    """Who has to act, after the number of an XID."""
    if event.kind == "gpu_lost":
        return "lost"
    number = event.get("xid")
    return XIDS.get(int(number), ("other", ""))[0] if isinstance(number, (int, float)) else "other"


def xid(*families: Family, unless: Sequence[Family] = (), why: str = "") -> Shown:
    """A condition: an XID of one of these families on the GPU in question and none of `unless`; its name is gpu_xid.
    why: what it means that there was one, for refuters."""

    def look(scene: Scene, entity: str) -> Outcome:
        """Met where one of them happened in the window; never unknown."""
        every = scene.happened(EVENTS, "gpu", entity)
        events = [e for e in every if family_of(e) in families]
        if not events or any(family_of(e) in unless for e in every):
            return _untold(families)
        return replace(_told(events), why=why)

    return Shown(look)


def numbered(number: int) -> Shown:
    """A condition: an XID of this number on the GPU in question."""

    def look(scene: Scene, entity: str) -> Outcome:
        """Never unknown."""
        events = [e for e in scene.happened(EVENTS, "gpu", entity) if e.get("xid") == number]
        found = _told(events) if events else _untold(("other",))
        return replace(found, why=f"the driver says why: XID {number}")

    return Shown(look)


def _told(events: Sequence[HostEvent]) -> Outcome:
    first = events[0]
    numbers = sorted({int(n) for e in events if isinstance(n := e.get("xid"), (int, float))})
    words = ", ".join(f"XID {n} ({XIDS[n][1]})" if n in XIDS else f"XID {n}" for n in numbers[:4])
    told = words or clean(str(first.get("reason") or ""), 80) or "nothing is known of why"
    times = f", {len(events)} times" if len(events) > 1 else ""
    claim = f"report of the driver: {told} on {_gpu_of(first)} at {clock(first.t_ns)}{times}"
    evidence = Evidence("", "event", claim, first.entity, "", (first.t_ns, events[-1].t_ns), float(len(events)), "1",
                        onset_ns=first.t_ns, source=first.source or "host events")
    return Outcome(True, evidence, "events", "gpu_xid")


def _gpu_of(event: HostEvent) -> str:
    return f"GPU {clean(event.entity.partition(',')[0].removeprefix('gpu='), 40)}"


def _untold(families: Sequence[Family]) -> Outcome:
    claim = f"no XID of this kind ({', '.join(families)}) was reported"
    return Outcome(False, Evidence("", "event", claim, source="host events"), "events", "gpu_xid")


def asks(*actions: int) -> Shown:
    """A condition: the driver asks for one of these recoveries of the GPU (for any where none is given)."""

    def look(scene: Scene, entity: str) -> Outcome:
        """Unknown where the driver tells no such thing."""
        name = "gpu_recovery_action"
        found = [m for m in scene.measures(name, "gpu", entity) if not math.isnan(m.last)]
        if not found:
            return Outcome(None, missing(name, scene), "nvml", name)
        action = int(found[0].last)
        words = ACTIONS.get(action, f"recovery {action}" if action else "nothing")
        claim = f"the driver asks for: {words}"
        evidence = replace(series_evidence(found[0], found[0].last), claim=claim)
        return Outcome(action > 0 and (not actions or action in actions), evidence, "nvml", name)

    return Shown(look, ("gpu_recovery_action",))
