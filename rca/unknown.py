"""What is told when no cause fits: what moved first, what stands out where, who is busy."""

import math
from collections.abc import Callable, Sequence

from etio.core.evidence import Evidence
from rca.conditions import series_evidence
from rca.culprits import TABLES, describe, fact
from rca.evidence import Measure
from rca.graph import family
from rca.scene import Scene
from rca.units import clean, clock, humanise

MOST = 4
_USES = (("cpu_cores", "cores", 0.05), ("read_bytes", "bytes/s", 1e6), ("write_bytes", "bytes/s", 1e6))
"""What a process may be busy with: attribute, unit, and what is worth telling."""


def strangest(scene: Scene) -> list[Measure]:
    """The series furthest from its baseline of each subsystem, those that deviate most first."""
    best: dict[str, Measure] = {}
    for one in scene.all():
        if one.unusual and math.isfinite(one.deviation):
            about = family(one.series.name)
            if about not in best or abs(one.deviation) > abs(best[about].deviation):
                best[about] = one
    return sorted(best.values(), key=lambda m: -abs(m.deviation))[:MOST]


def told(scene: Scene, cite: Callable[[Evidence], str]) -> str:
    """A paragraph about what is known all the same. cite: gives evidence its id."""
    strange = strangest(scene)
    about = [f"{e.claim}{_id(cite(e))}" for e in _alarming(scene)]
    parts = [f"The alert speaks of: {'; '.join(about)}."] if about else []
    if not strange:
        parts += ["No series stands out from its usual range."]
    else:
        each = "; ".join(f"{e.claim}{_id(cite(e))}" for e in (series_evidence(m, m.now) for m in strange))
        parts += [f"What stands out, the most unusual of each subsystem: {each}."]
        parts += _first(strange, cite)
    return " ".join([*parts, *_busiest(scene, cite)])


def _alarming(scene: Scene) -> list[Evidence]:
    """What the alerts themselves speak of."""
    keys = dict.fromkeys(a.series_key for a in scene.case.incident.alerts if a.series_key)
    return [series_evidence(m, m.now) for m in scene.all() if m.series.key in keys][:2]


def _first(strange: Sequence[Measure], cite: Callable[[Evidence], str]) -> list[str]:
    """Who moved first, where that is known and the moments differ."""
    moved = sorted((m for m in strange if m.onset_ns), key=lambda m: m.onset_ns)
    if len(moved) < 2 or moved[0].onset_ns == moved[-1].onset_ns:
        return []
    first = series_evidence(moved[0], moved[0].now)
    return [f"First to move, at {clock(moved[0].onset_ns)}: {first.claim.rsplit(': ', 1)[0]}{_id(cite(first))}."]


def _busiest(scene: Scene, cite: Callable[[Evidence], str]) -> list[str]:
    """The biggest user of CPU time and of block I/O."""
    sentences = []
    for attribute, unit, floor in _USES:
        ranked = scene.census.ranked(attribute)
        if ranked and ranked[0].total(attribute) >= floor:
            amount = ranked[0].total(attribute)
            way = {"cpu_cores": "uses", "read_bytes": "reads", "write_bytes": "writes"}[attribute]
            claim = f"{describe(ranked[0])} {way} {humanise(amount, unit)}"
            sentences.append(claim + _id(cite(fact(claim, scene, amount, unit, TABLES, f"pid={ranked[0].pid}"))))
    return [f"Busiest meanwhile: {'; '.join(sentences)}."] if sentences else []


def advice(scene: Scene) -> tuple[str, ...]:
    """What a person could look at next, from what stands out: one line each."""
    strange = strangest(scene)
    if not strange:
        return ("whether anything hurts at all: no series is outside its usual range now, so it may be over",)
    steps = [f"{family(m.series.name)}: {_LOOKS[family(m.series.name)]}" for m in strange
             if family(m.series.name) in _LOOKS]
    new = [describe(g) for g in scene.census.groups if not g.own and all(m.new and not m.gone for m in g.members)]
    if new:
        steps.append(f"whether it goes away without {clean(new[0], 120)}, which started in the same minute")
    return tuple(steps)


def _id(number: str) -> str:
    return f" [{number}]" if number else ""


_LOOKS = {
    "cpu": "a profile of the busiest process (perf record -g) tells more work from slower work",
    "memory": "the largest processes and MemAvailable a minute apart tell growth from a step",
    "disk": "iostat -x beside who reads and writes tells more requests from a slower device",
    "network": "nstat and the counters of each link, twice, tell a lossy path from a busy one",
    "gpu": "nvidia-smi -q -d PERFORMANCE,TEMPERATURE tells load from a slowed-down clock",
    "task": "what tasks in state D wait for (/proc/PID/stack) tells a device from a lock",
    "hardware": "the sensors and the kernel log tell heat from a failing part",
}
