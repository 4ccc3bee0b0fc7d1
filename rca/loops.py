"""Loop devices: in which file, and so on which file system, they keep their data."""

from dataclasses import replace

from rca.culprits import fact
from rca.mount_writers import mount_and_writer
from rca.scene import Scene
from rca.spec import Blame, Outcome
from rca.units import clean


def backing(scene: Scene, device: str) -> tuple[str, str]:
    """(file, mount point it lies on) of a loop device; "" for what is not known."""
    file = dict(scene.facts.extra).get(f"loop device={device.removeprefix('/dev/')}", "")
    mounts = {m.series.label("mount") or "" for m in scene.measures("filesystem_used_ratio")} - {""}
    above = [m for m in mounts if file.startswith(m.rstrip("/") + "/")]
    return file, max(above, key=len, default="")


def loops_on(scene: Scene, mount: str) -> list[tuple[str, str]]:
    """(device, file) of the loop devices whose data lies on a mount, where requests to it failed."""
    devices = [k.removeprefix("loop device=") for k, _ in scene.facts.extra if k.startswith("loop device=")]
    failing = {m.series.label("device") for m in scene.measures("block_errors_per_second") if m.peak > 0}
    failing |= {e.entity.removeprefix("device=") for e in scene.happened(("block_io_error", "filesystem_error"))}
    return [(d, file) for d in devices if d in failing for file, on in [backing(scene, d)] if on == mount]


def kept_in(scene: Scene, entity: str) -> Outcome:
    """The file that a loop device is."""
    file, mount = backing(scene, entity)
    where = f"the file {clean(file, 120)}" + (f" on the file system {clean(mount, 80)}" if mount else "")
    claim = f"where {clean(entity, 40)} keeps its data: {where}" if file else f"{clean(entity, 40)} is no loop device"
    evidence = fact(claim, scene, float("nan"), "", "/sys/block/*/loop", f"device={entity}")
    return Outcome(bool(file), evidence, "sysfs", "kept_in")


def full_mount(scene: Scene, entity: str) -> Blame | None:
    """The file system that is full, who writes most, and the loop device that fails for want of its room."""
    blame, loops = mount_and_writer(scene, entity), loops_on(scene, entity)
    if blame is None or not loops:
        return blame
    device, file = loops[0]
    claim = f"{blame.culprit.claim}; {clean(device, 40)} keeps its data there, in {clean(file, 120)}, and fails with it"
    return Blame(replace(blame.culprit, claim=claim), replace(blame.evidence, claim=claim), blame.group, blame.clear)
