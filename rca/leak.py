"""Steady growth of one family of processes, for the cause memory_leak."""

import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from etio.core.event import pid_of
from etio.core.evidence import Evidence
from etio.core.facts import Process
from etio.core.frame import NS
from etio.core.report import Culprit
from rca.conditions import missing, series_evidence
from rca.culprits import TABLES, describe, fact
from rca.evidence import Measure, rising_share
from rca.scene import Scene
from rca.spec import Blame, Outcome
from rca.units import clean, duration, humanise

MIN_SECONDS = 60.0
MIN_BYTES = 64 << 20
MIN_SHARE = 0.75
"""Share of steps in which a leak grows; a cache that fills levels off, so its last steps are flat."""

FORESEEN = frozenset(("MemoryLeak", "MemoryExhaustsSoon", "SwapExhaustsSoon"))
SOON_SECONDS = 3600.0
SHORT = 0.15
"""Share of memory that is left, from which on each growth matters."""


@dataclass(frozen=True, slots=True)
class Growth:
    """How one process grew: bytes now, bytes gained, per second, over how many seconds."""

    process: Process
    rss_bytes: float
    gained_bytes: float
    bytes_per_second: float
    seconds: float


def growths(scene: Scene) -> list[Growth]:
    """Processes that grow steadily up to the newest table, fastest first; etio's own left out."""
    tracks: dict[tuple[int, float], list[tuple[int, Process]]] = defaultdict(list)
    for table in scene.facts.processes:
        for one in table.processes:
            if one.rss_bytes > MIN_BYTES / 2 and one.pid not in scene.facts.own_pids:
                tracks[one.pid, -1.0 if math.isnan(one.start_s) else one.start_s].append((table.t_ns, one))
    found = [g for track in tracks.values() if (g := _growth(track)) is not None]
    return sorted(found, key=lambda g: -g.gained_bytes)


def _growth(track: list[tuple[int, Process]]) -> Growth | None:
    times = np.array([t for t, _ in track], dtype=np.float64) / NS
    sizes = np.array([p.rss_bytes for _, p in track])
    seconds = float(times[-1] - times[0])
    gained = float(sizes[-1] - sizes[0])
    if len(track) < 4 or seconds < MIN_SECONDS or gained < max(MIN_BYTES, 0.2 * sizes[0]):
        return None
    marks = np.interp(np.linspace(times[0], times[-1], min(len(track), 9)), times, sizes)
    steps = np.diff(marks)
    late = steps[len(steps) // 2:].sum()
    if (steps > 0.02 * gained / len(steps)).mean() < MIN_SHARE or late < 0.3 * gained or steps.max() > 0.6 * gained:
        return None
    return Growth(track[-1][1], float(sizes[-1]), gained, gained / seconds, seconds)


def candidates(scene: Scene) -> list[Growth]:
    """Who grows: by long process tables, else by short ones held against the long history of the host's memory."""
    return [g for g in growths(scene) or _carriers(scene) if _matters(scene, g)]


def _matters(scene: Scene, growth: Growth) -> bool:
    """Whether its growth is somebody's trouble: memory was foreseen to end, the host is short or soon will be, or the
    group that runs out of memory is its own. Programs that fill their caches grow as well."""
    left, ratio = scene.value("memory_available_bytes"), scene.value("memory_available_ratio")
    alerts = scene.case.incident.alerts
    if any(a.name in FORESEEN for a in alerts) or left / growth.bytes_per_second <= SOON_SECONDS or ratio <= SHORT:
        return True
    killed = scene.happened(("oom_kill",))
    places = {str(e.get("cgroup") or "") for e in killed} | {dict(a.labels).get("cgroup", "") for a in alerts}
    own = growth.process
    return any(pid_of(e.entity) == own.pid for e in killed) or any(
        own.cgroup == place or own.cgroup.startswith(place.rstrip("/") + "/") for place in places - {"", "/"})


def _carriers(scene: Scene) -> list[Growth]:
    """Processes whose growth between two tables makes up half of a steady growth of the whole host."""
    trend, seconds = _trend(scene), scene.whole.seconds
    if trend is None or math.isnan(seconds):
        return []
    found = [Growth(m.process, m.rss_bytes, m.rss_growth, m.rss_growth / seconds, seconds)
             for g in scene.whole.groups if not g.own for m in g.members
             if not m.new and _old(scene, m.process) and 0.5 * trend[1] <= m.rss_growth / seconds <= 4.0 * trend[1]]
    return sorted(found, key=lambda g: -g.gained_bytes)


def _old(scene: Scene, process: Process) -> bool:
    """Whether it can have made a growth of minutes: a program that has just started loads what it needs."""
    boot_ns = scene.facts.host.boot_ns
    return not boot_ns or not (scene.case.end_ns - boot_ns) / NS - process.start_s < MIN_SECONDS


def _trend(scene: Scene) -> tuple[Measure, float] | None:
    """The series that shows steady growth of used memory over minutes, and its bytes per second."""
    long = len(scene.window.t_ns) > 1 and scene.window.t_ns[-1] - scene.window.t_ns[0] >= 2 * MIN_SECONDS * NS
    for name, sign in (("memory_anon_bytes", 1.0), ("memory_available_bytes", -1.0)):
        for one in scene.measures(name) if long else ():
            at = scene.window.series.index(one.series)
            share, slope = rising_share(scene.window.t_ns, sign * scene.window.values[:, at])
            if share >= MIN_SHARE and slope >= MIN_BYTES / 600:
                return one, slope
    return None


def growing_process(scene: Scene, _entity: str) -> Outcome:
    """Whether some process grows steadily; the value is the time until memory is used up, in seconds."""
    tables = scene.facts.processes
    found = candidates(scene)
    if not found:
        short = len(tables) < 4 or tables[-1].t_ns - tables[0].t_ns < MIN_SECONDS * NS
        if short and not scene.measures("memory_anon_bytes") and not scene.measures("memory_available_bytes"):
            return Outcome(None, missing("process tables over a minute", scene), "processes", "growing_process")
        none = fact("no process grew steadily", scene, float("nan"), "", TABLES)
        return Outcome(False, none, "processes", "growing_process")
    top = found[0]
    left = scene.value("memory_available_bytes")
    claim = f"{clean(top.process.comm, 40)} (pid {top.process.pid}) grew by {_gain(top)}"
    evidence = Evidence("", "fact", claim, f"pid={top.process.pid}", "", (tables[0].t_ns, tables[-1].t_ns),
                        left / top.bytes_per_second, "seconds", onset_ns=0, source="process tables (/proc/PID/stat)")
    return Outcome(True, evidence, "processes", "growing_process")


def growing_total(scene: Scene, _entity: str) -> Outcome:
    """Whether the anonymous memory of the host (or what is left of it) moves the same way."""
    trend = _trend(scene)
    if trend is not None:
        return Outcome(True, series_evidence(trend[0], trend[0].last), "meminfo", "growing_total")
    return Outcome(False, missing("memory_anon_bytes", scene), "meminfo", "growing_total")


def grower(scene: Scene, _entity: str) -> Blame | None:
    """The process that grows; not clear where another grows at nearly the same pace."""
    found = candidates(scene)
    if not found:
        return None
    top = found[0]
    process = top.process
    group = next((g for g in scene.census.groups if any(m.process.pid == process.pid for m in g.members)), None)
    name = describe(group) if group and len(group.members) == 1 else f"{clean(process.comm, 40)} (pid {process.pid})"
    claim = f"{name} grew by {_gain(top)} and holds {humanise(top.rss_bytes, 'bytes')} now"
    clear = len(found) == 1 or top.gained_bytes >= 1.5 * found[1].gained_bytes
    if not clear:
        other = found[1].process
        claim += f"; {clean(other.comm, 40)} (pid {other.pid}) grew by {_gain(found[1])}"
    culprit = Culprit("process", clean(process.comm, 60), process.pid, process.cgroup, process.unit, claim)
    evidence = fact(claim, scene, top.bytes_per_second, "bytes/s", TABLES, f"pid={process.pid}")
    return Blame(culprit, evidence, "processes", clear)


def _gain(growth: Growth) -> str:
    pace = humanise(growth.bytes_per_second, "bytes/s")
    return f"{humanise(growth.gained_bytes, 'bytes')} in {duration(growth.seconds)} ({pace})"
