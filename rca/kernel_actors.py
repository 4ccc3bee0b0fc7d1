"""What the eBPF heavy hitters say of an incident: who had the cores, who was held back, where requests spent time."""

from collections.abc import Callable

from etio.core.evidence import Evidence
from etio.core.report import Culprit
from rca.culprits import CLEAR, by_usage, describe, fact, numbered
from rca.scene import Scene
from rca.spec import Blame, Outcome
from rca.units import clean, humanise
from rca.who import Group

HELD_S = 0.5
"""Seconds over the incident below which it does not matter who had the core, or who was held back."""
TIMES = ("block_queued_requests", "block_inflight_requests")
BUSY = 1.0
"""Requests under way, queued ones included, from which on it is worth telling where they spend their time."""


def core_holders(scene: Scene, _entity: str) -> Outcome:
    """Who ran on the cores that others waited for."""
    held = _by_group(scene, "cpu_hold")
    total = sum(seconds for _, seconds in held)
    if total < HELD_S:
        return _unknown("who had the cores that others waited for", "ebpf sched", "core_holders")
    parts = [f"{name} {humanise(seconds / total, 'ratio')}" for name, seconds in held[:3]]
    waited = [name for name, seconds in _by_group(scene, "run_delay")[:2] if seconds >= HELD_S]
    longest = f"; waited longest: {', '.join(waited)}" if waited else ""
    claim = f"while others waited for a core, it was taken by: {', '.join(parts)}{longest}"
    evidence = fact(claim, scene, held[0][1] / total, "ratio", "eBPF sched:sched_switch")
    return Outcome(True, evidence, "ebpf sched", "core_holders")


def times_of_requests(scene: Scene, entity: str) -> Outcome:
    """Whether requests spend their time in the scheduler's queue (too much is asked) or at the device (it is slow)."""
    queued, inside = (_sum(scene, name, entity) for name in TIMES)
    if not queued + inside >= BUSY:
        return _unknown(f"where requests to {clean(entity, 40)} spend their time", "ebpf block", "times_of_requests")
    share = queued / (queued + inside)
    judged = ("more is asked of it than it takes" if share >= 0.5 else
              "they hardly wait for their turn, the device itself takes that long" if share <= 0.1 else
              "some of it waiting for their turn")
    claim = (f"time of its requests: {humanise(share, 'ratio')} in the queue and {humanise(1 - share, 'ratio')} at the "
             f"device; {judged}")
    evidence = fact(claim, scene, share, "ratio", "eBPF block:block_rq_insert, issue, complete", f"device={entity}")
    return Outcome(True, evidence, "ebpf block", "times_of_requests")


def writer_held_back(scene: Scene, entity: str) -> Blame | None:
    """The biggest writer; without process tables, or where it was not held back, who was held back longest."""
    held = _by_group(scene, "dirty_wait")
    writer = by_usage("write_bytes", "wrote {}", "bytes/s", floor=65536.0)(scene, entity)
    others = f"; held back most: {held[0][0]}, {humanise(held[0][1], 'seconds')} in all" if held else ""
    if writer is not None:
        claim = writer.culprit.claim + others
        who = writer.culprit
        named = Culprit(who.kind, who.name, who.pid, who.cgroup, who.unit, claim)
        return Blame(named, fact(claim, scene, writer.evidence.value, "bytes/s", writer.evidence.source,
                                 f"pid={who.pid}"), writer.group, writer.clear)
    if not held or held[0][1] < HELD_S:
        return None
    actor = scene.census.actors("dirty_wait")[0]
    claim = f"{held[0][0]} was held back {humanise(held[0][1], 'seconds')} in all"
    evidence = fact(claim, scene, held[0][1], "seconds", "eBPF writeback:balance_dirty_pages", f"pid={actor.pid}")
    clear = len(held) == 1 or held[0][1] >= CLEAR * held[1][1]
    culprit = Culprit("process", clean(actor.name, 60), max(actor.pid, 0), claim=claim)
    return Blame(culprit, evidence, "ebpf memory", clear)


def _by_group(scene: Scene, kind: str) -> list[tuple[str, float]]:
    """(who, seconds) of the actors of a kind, processes of one family together, longest first."""
    sums: dict[str, float] = {}
    place = _finder(scene)
    for actor in scene.census.actors(kind):
        group = place(actor.pid)
        name = describe(group) if group else f"{clean(actor.name, 40)} ({numbered(actor.pid)})"
        sums[name] = sums.get(name, 0.0) + (actor.amount if actor.amount == actor.amount else 0.0)
    return sorted(sums.items(), key=lambda item: -item[1])


def _finder(scene: Scene) -> Callable[[int], Group | None]:
    places = {m.process.pid: group for group in scene.census.groups for m in group.members}
    return places.get


def _sum(scene: Scene, name: str, entity: str) -> float:
    """Over the directions of a device; NaN where none has a value."""
    known = [m.now for m in scene.measures(name, "device", entity) if m.now == m.now]
    return sum(known) if known else float("nan")


def _unknown(what: str, group: str, name: str) -> Outcome:
    return Outcome(None, Evidence("", "missing", f"{what}: not known", coverage=0.0, source="eBPF"), group, name)
