"""A core that several tasks must share while others idle: who has it, and who waits for it."""

from etio.core.report import Culprit
from rca.conditions import missing
from rca.culprits import TABLES, describe, fact
from rca.scene import Scene
from rca.spec import Blame, Outcome
from rca.units import clean, humanise
from rca.who import Group

SOURCE = "eBPF sched:sched_switch"
WAITS_S = 0.2
"""Seconds per second: who waits less for a CPU does not matter."""
HELD_S = 0.5
ALONE = 0.7
"""Share of the time in which others waited that one family must have had the core, so that they wait for it and not for
each other."""


def crowded(scene: Scene, entity: str) -> Blame | None:
    """Who has the core to itself while others wait for it; where they only wait for each other, who waits most."""
    ranked = [g for g in scene.census.ranked("run_delay") if g.total("run_delay") >= WAITS_S]
    holder = _holder(scene)
    if holder is not None:
        return _held(scene, *holder, [g for g in ranked if g.pid != holder[0].pid], entity)
    if not ranked:
        return None
    top = ranked[0]
    claim = f"{_waited(top)} although other cores were idle"
    evidence = fact(claim, scene, top.total("run_delay"), "seconds/s", TABLES, f"pid={top.pid}")
    culprit = Culprit("process", clean(top.name, 60), top.pid, top.cgroup, top.unit, claim)
    return Blame(culprit, evidence, "processes", len(ranked) == 1 or top.total("run_delay") >= 1.5 *
                 ranked[1].total("run_delay"))


def core_held(scene: Scene, entity: str) -> Outcome:
    """Whether one family of processes has the core to itself."""
    holder = _holder(scene)
    if holder is None:
        return Outcome(None, missing("cpu_hold", scene), "ebpf sched", "core_held")
    group, share = holder
    claim = f"who had core {clean(entity, 20)} while others waited for it: {clean(group.name, 60)}"
    return Outcome(True, fact(claim, scene, share, "ratio", SOURCE, f"pid={group.pid}"), "ebpf sched", "core_held")


def _held(scene: Scene, group: Group, share: float, waiting: list[Group], entity: str) -> Blame:
    others = f"; {_waited(waiting[0])} although other cores were idle" if waiting else ""
    claim = (f"{describe(group)} had core {clean(entity, 20)} {humanise(share, 'ratio')} of the time in which others "
             f"waited for it{others}")
    culprit = Culprit("process", clean(group.name, 60), group.pid, group.cgroup, group.unit, claim)
    return Blame(culprit, fact(claim, scene, share, "ratio", SOURCE, f"pid={group.pid}"), "ebpf sched")


def _waited(group: Group) -> str:
    return f"{describe(group)} waited for a CPU {humanise(group.total('run_delay'), 'seconds/s')}"


def _holder(scene: Scene) -> tuple[Group, float] | None:
    """(family, share) that ran nearly all the time in which others waited for its core and that is not itself among
    those who wait most; None where there is none, or without eBPF."""
    places = {m.process.pid: g for g in scene.census.groups for m in g.members}
    total, sums = 0.0, dict[int, float]()
    for actor in scene.census.actors("cpu_hold"):
        seconds = actor.amount if actor.amount == actor.amount else 0.0
        total += seconds
        if group := places.get(actor.pid):
            sums[group.pid] = sums.get(group.pid, 0.0) + seconds
    most = max(sums, key=lambda pid: sums[pid], default=0)
    if total < HELD_S or sums.get(most, 0.0) < ALONE * total:
        return None
    group = next(g for g in scene.census.groups if g.pid == most)
    return None if group.own or not group.total("run_delay") < WAITS_S else (group, sums[most] / total)
