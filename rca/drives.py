"""Who an NVMe drive is, from the facts of its collector."""

from dataclasses import replace

from rca.culprits import named
from rca.scene import Scene
from rca.spec import Blame
from rca.units import clean


def drive_itself(scene: Scene, entity: str) -> Blame:
    """The drive of the entity, with its model and how it has lived so far."""
    blame = named("device", scene, entity, f"It is the drive {clean(entity)}", "NVMe health log")
    told = dict(scene.facts.extra).get(f"nvme device={entity}", "")
    if not told:
        return blame
    claim = f"It is the drive {clean(entity)} ({clean(told, 240)})"
    return Blame(replace(blame.culprit, claim=claim), replace(blame.evidence, claim=claim), blame.group)
