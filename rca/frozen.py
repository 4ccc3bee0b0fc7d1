"""Frozen control groups: which, and who is in them."""

from etio.core.report import Culprit
from rca.culprits import fact
from rca.exhausted import latest
from rca.scene import Scene
from rca.spec import Blame
from rca.units import clean, plural


def frozen_group(scene: Scene, entity: str) -> Blame | None:
    """The group that is frozen, with one of its processes; who froze it the kernel does not tell."""
    event = latest(scene, ("group_frozen",), "cgroup", entity)
    if event is None:
        return None
    pid, count = (int(n) if isinstance(n := event.get(name), (int, float)) else 0 for name in ("pid", "processes"))
    unit = clean(str(event.get("unit") or ""), 200)
    who = clean(str(event.get("comm") or ""), 40)
    inside = f": {plural(count, 'process')}, such as {who or 'one'} (pid {pid})," if pid else ""
    claim = f"The freezer holds {clean(entity, 80)}{inside} and none of it runs until it is thawed"
    culprit = Culprit("unit" if unit else "cgroup", unit or clean(entity, 200), pid, entity, unit, claim)
    return Blame(culprit, fact(claim, scene, float(count), "1", event.source, event.entity), "events")
