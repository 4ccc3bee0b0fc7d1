"""Two troubles at once: when a cause that could explain another does not, because somebody else is behind that one."""

from etio.core.report import Culprit
from rca.loops import backing
from rca.scene import Scene
from rca.spec import Draft

DOERS = frozenset(("cpu_saturation", "runqueue_contention", "context_switch_storm", "fork_storm", "disk_saturation",
                   "dirty_throttling", "oom_kill", "packet_loss"))
"""Causes whose culprit does it, and does not merely suffer: it must have to do with the culprit of what explains it."""
SUFFERERS = frozenset((("process_stopped", "listen_overflow"), ("process_fds_exhausted", "listen_overflow"),
                       ("group_frozen", "listen_overflow"), ("group_frozen", "connect_failures"),
                       ("oom_kill", "server_down")))
"""Pairs where who suffers must be the culprit of the cause itself."""
NEVER = frozenset((("udp_overflow", "packet_loss"),))
"""The first explains lost packets, but no alert that speaks of TCP."""
DISK = frozenset(("disk_saturation", "dirty_throttling"))
MEMORY = frozenset(("memory_pressure", "memory_leak", "oom_kill", "swap_thrashing"))
COLLATERAL = frozenset(("gpu_application_error", "gpu_xid", "gpu_nvlink_errors"))
"""What a fault of one GPU does to others: a job over many of them ends on all."""
SEPARATE = frozenset(("device", "gpu", "mount", "server", "cgroup"))
"""Labels of things of which one does not suffer for another, unless one is made of the other."""
IN_MEMORY = frozenset(("tmpfs", "ramfs", "devtmpfs"))
STACKED = ("loop", "dm-", "md", "zram", "drbd", "bcache", "overlay")
SWAPPED_IN = 200.0
"""Pages a second that come back from swap: then anybody may read from the disk for want of memory."""
SCARCE = 0.2
CLIMB = 16


def apart(cause: Draft, effect: Draft, scene: Scene) -> bool:
    """Whether the effect has an alert and a culprit of its own, who has nothing to do with that of the cause."""
    if (cause.spec.id, effect.spec.id) == ("disk_full", "device_errors"):  # no other device fails for want of room
        return backing(scene, effect.entity)[1] != cause.entity
    if effect.link < 2:
        return False
    return _elsewhere(cause, effect, scene) or _by_others(cause, effect, scene)


def _elsewhere(cause: Draft, effect: Draft, scene: Scene) -> bool:
    """Whether they are at places that have nothing to do with each other, whoever is behind them."""
    if (cause.spec.id, effect.spec.id) in NEVER:
        return True
    if cause.table.label == "mount" and effect.table.label == "device":
        return _on_another_disk(cause.entity, effect.entity, scene)
    if cause.table.label == "device" and effect.table.label == "mount":
        return _on_another_disk(effect.entity, cause.entity, scene)
    if cause.table.label == effect.table.label and effect.spec.id not in COLLATERAL:
        return unrelated(cause.table.label, cause.entity, effect.entity)
    return cause.spec.id in MEMORY and _of_another_group(cause, effect)


def unrelated(label: str, first: str, second: str) -> bool:
    """Whether two values of a label are things that have nothing to do with each other; False where that is not known.

    >>> unrelated("device", "sda", "sdb"), unrelated("device", "sda", "/dev/sda1"), unrelated("device", "sda", "md0")
    (True, False, False)
    >>> unrelated("cgroup", "/a", "/a/b"), unrelated("cgroup", "/a", "/ab"), unrelated("gpu", "1", "10")
    (False, True, True)
    """
    if label not in SEPARATE or first == second:
        return False
    if label == "cgroup":
        return not _below(first, second) and not _below(second, first)
    if label != "device":
        return True
    one, other = first.removeprefix("/dev/"), second.removeprefix("/dev/")
    if any("/" in d or d.startswith(STACKED) for d in (one, other)) or _link(one) or _link(other):
        return False
    return not one.startswith(other) and not other.startswith(one)


def _link(device: str) -> bool:
    """Whether it looks like a network device: an RDMA port and the interface on it have names of their own."""
    return not device.startswith(("sd", "nvme", "vd", "xvd", "hd", "mmcblk"))


def _by_others(cause: Draft, effect: Draft, scene: Scene) -> bool:
    if effect.spec.id not in DOERS and (cause.spec.id, effect.spec.id) not in SUFFERERS:
        return False
    if cause.spec.id in MEMORY and effect.spec.id in DISK and _for_want_of_memory(effect, scene):
        return False
    if effect.spec.id == "oom_kill":  # on a host that is short, whoever is killed need not be who took it
        return not _short(scene) and (not _clear(cause) or not _clear(effect) or _strangers(cause, effect, scene))
    return _clear(cause) and _clear(effect) and _strangers(cause, effect, scene)


def _clear(draft: Draft) -> bool:
    return draft.blame is not None and draft.blame.clear


def _of_another_group(cause: Draft, effect: Draft) -> bool:
    """Whether the effect is at the limit of a group that the culprit of the cause is not in."""
    own = cause.blame.culprit.cgroup if cause.blame else ""
    if effect.table.label != "cgroup" or own in ("", "/"):
        return False
    return not _below(own, effect.entity) and not _below(effect.entity, own)


def _on_another_disk(mount: str, disk: str, scene: Scene) -> bool:
    """Whether a file system lies in memory, or on another disk than that one; unknown for stacked devices."""
    devices = {m.series.label("device") or "" for name in ("filesystem_used_ratio", "filesystem_readonly")
               for m in scene.measures(name, "mount", mount)}
    own = [d.removeprefix("/dev/") for d in devices]
    if own and all(d in IN_MEMORY for d in own):
        return True
    return bool(own) and not any(d.startswith((disk, *STACKED)) or disk.startswith(d) or "/" in d for d in own)


def _for_want_of_memory(effect: Draft, scene: Scene) -> bool:
    """Whether pages come back from disk soon after they were dropped or swapped out."""
    return bool(effect.doubts) or scene.value("vm_swap_in_pages_per_second") >= SWAPPED_IN


def _short(scene: Scene) -> bool:
    """Whether memory of the host itself became scarce, or nobody measured it."""
    return not min((m.low for m in scene.measures("memory_available_ratio")), default=0.0) > SCARCE


def _strangers(cause: Draft, effect: Draft, scene: Scene) -> bool:
    first, second = (d.blame.culprit if d.blame else None for d in (cause, effect))
    if first is None or second is None:
        return False
    if first.kind == "peer" == second.kind:
        return first.name != second.name
    if "peer" in (first.kind, second.kind):
        return False
    if not second.pid:
        return bool(second.cgroup and first.cgroup) and not _inside(first, second)
    if first.kind == "process" and first.pid:
        return not _kin(first, second, scene)
    return first.kind in ("cgroup", "unit") and bool(first.cgroup) and not _inside(second, first)


def _inside(one: Culprit, group: Culprit) -> bool:
    return _below(one.cgroup, group.cgroup)


def _below(path: str, group: str) -> bool:
    return path == group or path.startswith(group.rstrip("/") + "/")


def _kin(first: Culprit, second: Culprit, scene: Scene) -> bool:
    """One of a family: of one group of processes, of one name, or one started by the other."""
    if first.pid == second.pid or first.name == second.name:
        return True
    families = [{m.process.pid for m in g.members} for g in scene.census.groups]
    if any({first.pid, second.pid} <= family for family in families):
        return True
    return first.pid in _ancestors(second.pid, scene) or second.pid in _ancestors(first.pid, scene)


def _ancestors(pid: int, scene: Scene) -> set[int]:
    found: set[int] = set()
    for _ in range(CLIMB):
        known = scene.census.process(pid)
        if known is None or known.ppid in found or known.ppid <= 1:
            break
        pid = known.ppid
        found.add(pid)
    return found
