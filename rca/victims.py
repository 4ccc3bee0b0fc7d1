"""Who suffers: others than the culprit that wait for the CPU, or for a device."""

from etio.core.event import pid_of
from etio.core.evidence import Evidence
from rca.culprits import TABLES, describe, fact
from rca.scene import Scene
from rca.spec import Draft
from rca.units import spoken
from rca.who import KERNEL_THREADS, Group

CPU = frozenset(("cpu_saturation", "runqueue_contention", "fork_storm", "cpu_steal"))
DEVICE = frozenset((
    "disk_saturation", "dirty_throttling", "io_stall", "swap_thrashing", "memory_pressure", "device_errors"))
WAITS = 0.05
"""Seconds of waiting per second from which somebody suffers."""
MOST = 2


def victims(draft: Draft, scene: Scene) -> Evidence | None:
    """Those who wait most because of a cause, the culprit left out; None where nobody was seen waiting."""
    if draft.spec.id in CPU:
        waiting = [g for g in scene.census.ranked("run_delay") if g.total("run_delay") >= WAITS]
        named = [f"{describe(g)} {spoken(g.total('run_delay'), 'seconds/s')}" for g in _others(waiting, draft)]
        said = "Others wait for a CPU as well"
    elif draft.spec.id in DEVICE:
        waiting = [g for g in scene.census.groups if not g.own and g.ppid not in KERNEL_THREADS
                   and any(m.process.state == "D" and not m.gone for m in g.members)]
        named = [describe(g) for g in _others(waiting, draft)]
        said = "Others were seen waiting in the kernel (state D)"
    else:
        return None
    return fact(f"{said}: {'; '.join(named[:MOST])}", scene, float("nan"), "", TABLES) if named else None


def _others(groups: list[Group], draft: Draft) -> list[Group]:
    who = draft.blame.culprit if draft.blame else None
    if who is None or draft.blame is None:
        return []
    told = pid_of(draft.blame.evidence.entity)  # one that waits is told with the file system it waits for
    return [g for g in groups if not {who.pid, told} & {m.process.pid for m in g.members} and g.ppid != who.pid
            and not (g.name == who.name and g.cgroup == who.cgroup)]
