"""Who ran out of memory, for the cause oom_kill: the victim, and the biggest user of the group or host."""

import math
from dataclasses import replace

from etio.core.event import HostEvent, pid_of
from etio.core.facts import Process, unit_of
from etio.core.report import Culprit
from rca.culprits import TABLES, describe, fact, in_cgroup
from rca.scene import Scene
from rca.spec import Blame, Outcome
from rca.units import clean, clock, humanise, plural
from rca.who import Group

OWN = 0.6
"""Share of its limit that the processes of a group must have held, for one of them to have used it up."""
LEAST = 32 * 2.0**20


def oom_user(scene: Scene, entity: str) -> Blame | None:
    """The victim where it was the biggest, as it mostly is; else the biggest user that is left."""
    events = scene.happened(("oom_kill",), "cgroup" if entity else "", entity)
    victim = next((e for e in events if pid_of(e.entity)), None)
    holders = scene.census.ranked("rss_bytes", in_cgroup(scene, entity))
    others = [g for g in holders if any(not m.gone for m in g.members)]
    if victim is None:
        return _unseen(scene, entity, others)
    blame = _blamed(scene, entity, victim, others)
    more = sum(e.t_ns > victim.t_ns for e in events)
    if not more:
        return blame
    claim = f"{blame.culprit.claim}; {plural(more, 'more process was', 'more processes were')} killed since"
    return replace(blame, culprit=replace(blame.culprit, claim=claim), evidence=replace(blame.evidence, claim=claim))


def _blamed(scene: Scene, entity: str, victim: HostEvent, others: list[Group]) -> Blame:
    held = _held(scene, victim)
    if (kept := _kept_in_files(scene, entity or str(victim.get("cgroup") or ""), victim)) is not None:
        return kept
    if not entity and not _host_was_short(scene):
        group = _place(victim)
        whose = f"that of its own group, {group}" if group else "that of its own group"
        return _victim(scene, victim, held, f"; the host had memory left, so the limit it met was {whose}")
    rest = [g for g in others if all(m.process.pid != pid_of(victim.entity) for m in g.members)]
    if not rest or held >= rest[0].total("rss_bytes") or _family(others, victim):
        return _victim(scene, victim, held, ", more than any other there" if held else "")
    return _biggest(scene, rest[0], f"; the kernel {_told(victim)}")


def _kept_in_files(scene: Scene, path: str, victim: HostEvent) -> Blame | None:
    """The group itself, where its processes held far less than it may use: page cache would have been given back, so
    the rest lies in a tmpfs or in shared memory, or the kernel has it. Whoever was killed for it need not be to blame.
    """
    seen = scene.census.cgroup(path) if path not in ("", "/") else None
    limit = seen[1].memory_limit_bytes if seen else math.nan
    if not math.isfinite(limit):
        return None
    killed = {pid_of(e.entity): e for e in scene.happened(("oom_kill",))}
    sizes = {m.process.pid: m.process.rss_bytes for g in scene.census.groups for m in g.members
             if in_cgroup(scene, path)(m.process)}
    sizes |= {pid: max(sizes.get(pid, 0.0), _held(scene, event)) for pid, event in killed.items()
              if pid in sizes or event is victim}
    own = math.fsum(v for v in sizes.values() if math.isfinite(v))
    if own > OWN * limit or limit - own < LEAST:
        return None
    claim = (f"{clean(path, 80)} may use {humanise(limit, 'bytes')}, of which its processes held "
             f"{humanise(own, 'bytes')}; the rest could not be given back, so it is files in a tmpfs, shared memory or "
             f"memory of the kernel; the kernel {_told(victim)}, which held {humanise(_held(scene, victim), 'bytes')}")
    culprit = Culprit("cgroup", clean(path, 200), cgroup=path, unit=unit_of(path), claim=claim)
    return Blame(culprit, fact(claim, scene, own, "bytes", TABLES, f"cgroup={path}"), "processes")


def _unseen(scene: Scene, entity: str, others: list[Group]) -> Blame | None:
    """Without the kernel's word on the victim: the group that counted a kill, else the biggest user of a short host."""
    path = entity or _group_of_kill(scene)
    if not path and _host_was_short(scene):
        return _biggest(scene, others[0], "") if others else None
    inside = scene.census.ranked("rss_bytes", in_cgroup(scene, path)) if path else []
    return _biggest(scene, inside[0], "") if inside else _gone(scene, path)


def _group_of_kill(scene: Scene) -> str:
    """Path of the control group whose count of OOM kills grew between its tables; "" where none shows."""
    seen: dict[str, list[float]] = {}
    for at, table in enumerate(scene.facts.cgroups):
        for one in table.cgroups:
            if one.oom_kills >= 0:
                seen.setdefault(one.path, [0.0] if at else []).append(one.oom_kills)
    grown = {path: counts[-1] - counts[0] for path, counts in seen.items() if counts[-1] > counts[0]}
    return max(grown, key=lambda path: (grown[path], len(path)), default="")


def _known(scene: Scene, victim: HostEvent) -> Process | None:
    """The victim in the process tables: by its number, which in a PID namespace of our own another program may have."""
    known, comm = scene.census.process(pid_of(victim.entity)), victim.get("comm")
    return known if known is not None and comm in (None, "", known.comm) else None


def _held(scene: Scene, victim: HostEvent) -> float:
    size = victim.get("anon_rss_bytes")
    known = _known(scene, victim)
    return float(size) if isinstance(size, (int, float)) else known.rss_bytes if known else 0.0


def _family(groups: list[Group], victim: HostEvent) -> bool:
    """Whether the victim belongs to the biggest family, such as one of many workers."""
    return bool(groups) and any(m.process.pid == pid_of(victim.entity) for m in groups[0].members)


def _told(victim: HostEvent) -> str:
    name = clean(str(victim.get("comm") or "a process"), 40)
    return f"killed {name} (pid {pid_of(victim.entity)}) at {clock(victim.t_ns)}"


def _place(victim: HostEvent) -> str:
    """The unit of a victim, else its control group; "" where nobody told."""
    cgroup = clean(str(victim.get("cgroup") or ""), 200)
    return unit_of(cgroup) or cgroup.removesuffix("/")


def limit_met(scene: Scene, entity: str) -> Outcome:
    """Whether a process was killed at the limit of this group, whichever group below it the process was in."""
    met = [e for e in scene.happened(("oom_kill",)) if _limited(scene, e) == entity]
    claim = f"processes killed at the memory limit of {clean(entity, 80)}: {len(met)}"
    source = met[0].source if met else "host events"
    evidence = fact(claim, scene, float(len(met)), "1", source, f"cgroup={entity}")
    return Outcome(bool(met), evidence, "victim", "limit_met")


def _limited(scene: Scene, victim: HostEvent) -> str:
    """The group whose limit a victim met: the kernel log says it; else the nearest one above it that has a limit."""
    if said := str(victim.get("limited") or ""):
        return said
    known, told = _known(scene, victim), str(victim.get("cgroup") or "")
    path = told if told not in ("", "/") else known.cgroup if known else ""
    while path and not (_host_was_short(scene) or path == "/"):
        seen = scene.census.cgroup(path)
        if seen and math.isfinite(seen[1].memory_limit_bytes):
            return path
        path = path.rpartition("/")[0]
    return ""


def _host_was_short(scene: Scene) -> bool:
    """Whether the host itself was at its end; where it was not, a limit of some group did it."""
    lows = [m.low for m in scene.measures("memory_available_ratio")]
    return bool(lows) and min(lows) <= 0.10


def _victim(scene: Scene, victim: HostEvent, held: float, note: str) -> Blame:
    pid = pid_of(victim.entity)
    known = _known(scene, victim)
    size = f"; it held {humanise(held, 'bytes')}" if held > 0 else ""
    claim = f"The kernel {_told(victim)}{size}{note}"
    name = clean(str(victim.get("comm") or (known.comm if known else f"pid {pid}")), 60)
    cgroup = (known.cgroup if known else "") or clean(str(victim.get("cgroup") or ""), 200)
    culprit = Culprit("process", name, pid, cgroup, (known.unit if known else "") or unit_of(cgroup), claim)
    source = victim.source or "host events"
    return Blame(culprit, fact(claim, scene, held, "bytes", source, f"pid={pid}"), "victim")


def _biggest(scene: Scene, group: Group, told: str) -> Blame:
    size = group.total("rss_bytes")
    claim = f"{describe(group)} holds {humanise(size, 'bytes')}{told}"
    culprit = Culprit("process", clean(group.name, 60), group.pid, group.cgroup, group.unit, claim)
    return Blame(culprit, fact(claim, scene, size, "bytes", TABLES, f"pid={group.pid}"), "processes")


def _gone(scene: Scene, entity: str) -> Blame | None:
    """Nobody is left in the group and the victim was not told: the group itself is all that can be named."""
    if not entity:
        return None
    claim = f"Nobody is left in {clean(entity)}; who was killed was not reported"
    return Blame(Culprit("cgroup", clean(entity, 200), cgroup=entity, claim=claim),
                 fact(claim, scene, float("nan"), "", "cgroup files", f"cgroup={entity}"), "cgroup")
