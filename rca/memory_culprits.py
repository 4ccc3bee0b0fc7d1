"""Who holds the memory of a host or group: a family of processes, or nobody's processes at all.

What lies in a tmpfs or in shared memory, what is set aside as huge pages, what the kernel keeps in its own caches or
lets drivers, pipes and sockets have, belongs to no process: blaming the biggest one would be wrong.
"""

import math
from dataclasses import replace

from etio.core.evidence import Evidence
from etio.core.report import Culprit
from rca.culprits import CLEAR, by_usage, fact, in_cgroup, named
from rca.scene import Scene
from rca.spec import Blame, Outcome
from rca.units import clean, humanise

READS = ("memory_shmem_bytes", "memory_slab_bytes", "memory_huge_page_bytes", "memory_page_tables_bytes",
         "memory_slab_unreclaimable_bytes", "filesystem_used_ratio", "filesystem_size_bytes",
         "vm_zone_high_watermark_pages")
UNTOLD = ("memory_available_bytes", "memory_anon_bytes", "memory_shmem_bytes", "memory_slab_unreclaimable_bytes",
          "memory_page_tables_bytes", "memory_huge_page_bytes")
"""What is left of all memory without these the kernel holds for others, and /proc/meminfo does not say for whom."""
SMALL = 0.15
"""Who holds less than this share of what is in use is not why it is short."""
MUCH = 0.25
"""Share of the host's memory from which on what no process holds is worth telling."""
CACHE = 0.5
"""Of its limit: a group that cannot do without less than that has the rest for files it has read."""
PAGE, READS_MUCH = 4096.0, 2.0**20
GROUP = "meminfo"


def memory_holder(scene: Scene, entity: str) -> Blame | None:
    """Who holds the memory; inside a group when the group is the entity."""
    process = by_usage("rss_bytes", "holds {}", "bytes", in_cgroup)(scene, entity)
    if not entity:
        ranked = scene.census.ranked("rss_bytes")
        return _no_process(scene, ranked[0].total("rss_bytes") if ranked else 0.0) or _if_much(scene, process)
    return _reader(scene, entity) or process or named(
        "cgroup", scene, entity, f"The processes of {clean(entity)} could not be seen", "cgroup files")


def _reader(scene: Scene, entity: str) -> Blame | None:
    """Who reads in a group that has little memory for itself: what does not fit its limit is what it reads."""
    used = scene.value("cgroup_memory_used_ratio", "cgroup", entity)
    back = scene.value("cgroup_memory_refaults_per_second", "cgroup", entity)
    if not (used < CACHE and back * PAGE >= READS_MUCH):
        return None
    return by_usage("read_bytes", "reads {} of files", "bytes/s", in_cgroup, floor=READS_MUCH)(scene, entity)


def _if_much(scene: Scene, process: Blame | None) -> Blame | None:
    """The biggest holder, not as the culprit where it holds but a small part of what is in use."""
    used = _total(scene) - scene.value("memory_available_bytes")
    return replace(process, clear=False) if process and process.evidence.value < SMALL * used else process


def _total(scene: Scene) -> float:
    return scene.facts.host.memory_bytes or scene.value("memory_total_bytes")


def kept_by_nobody(scene: Scene, _entity: str) -> Outcome:
    """Whether much of the host's memory is in a tmpfs, in shared memory or in caches of the kernel."""
    blame = _no_process(scene, 0.0)
    none = Evidence("", "missing", "memory that no process holds: not known", coverage=0.0, source="/proc/meminfo")
    return Outcome(blame is not None or None, blame.evidence if blame else none, GROUP, "kept_by_nobody")


def _no_process(scene: Scene, biggest: float) -> Blame | None:
    """The tmpfs, or the kernel, that holds most, where that is clearly more than the biggest family of processes."""
    shared, slab, huge = (scene.value(f"memory_{what}_bytes") for what in ("shmem", "slab", "huge_page"))
    reserve = _reserve(scene)
    untold = _total(scene) - reserve - sum(scene.value(name) for name in UNTOLD)
    least = max(CLEAR * biggest, MUCH * _total(scene))
    most = max((v for v in (shared, slab, huge, untold, reserve) if v >= least), default=0.0)
    if not most:
        return None
    if shared == most:
        return _shared(scene, shared)
    kind = "slab caches"
    claim = f"The kernel holds {humanise(slab, 'bytes')} in its own caches (slab); slabtop names them"
    if huge == most:
        kind = "pool of huge pages"
        claim = (f"{humanise(huge, 'bytes')} are set aside as huge pages (vm.nr_hugepages), which only programs that "
                 "ask for them can use")
    elif reserve == most:
        kind = "reserve of free memory"
        claim = (f"The kernel keeps {humanise(reserve, 'bytes')} free and gives them to nobody (vm.min_free_kbytes, "
                 "vm.watermark_scale_factor)")
    elif untold == most:
        kind, claim = "memory outside processes", (
            f"About {humanise(untold, 'bytes')} belong to no process, tmpfs or cache that /proc/meminfo tells of: "
            "buffers of pipes and sockets, drivers, a file system's own cache or a balloon of the hypervisor hold them")
    return _blame(scene, Culprit("kernel", kind, claim=claim), most)


def _reserve(scene: Scene) -> float:
    """Free memory that counts as not available: below this mark the kernel reclaims; 0 where it is not known."""
    return PAGE * sum(m.now for m in scene.measures("vm_zone_high_watermark_pages") if math.isfinite(m.now))


def _shared(scene: Scene, shared: float) -> Blame:
    size, mount = max(_tmpfs(scene), default=(0.0, ""))
    if size < shared / 2:
        claim = (f"Shared memory and tmpfs hold {humanise(shared, 'bytes')}, which no process has to itself; "
                 "ipcs -m and df -t tmpfs show where")
        return _blame(scene, Culprit("kernel", "shared memory", claim=claim), shared)
    rest = f" of the {humanise(shared, 'bytes')} of shared memory and tmpfs" if size < 0.9 * shared else ""
    claim = (f"The files in {clean(mount, 80)} (tmpfs) take {humanise(size, 'bytes')} of memory{rest}; they stay until "
             "they are deleted, whoever wrote them")
    return _blame(scene, Culprit("filesystem", clean(mount, 200), claim=claim), size)


def _tmpfs(scene: Scene) -> list[tuple[float, str]]:
    """(bytes in use, mount point) of each file system that lies in memory."""
    sizes = {m.series.labels: m.last for m in scene.measures("filesystem_size_bytes")}
    return [(m.last * size, m.series.label("mount") or "") for m in scene.measures("filesystem_used_ratio")
            if m.series.label("type") in ("tmpfs", "ramfs") and (size := sizes.get(m.series.labels, 0.0)) * m.last > 0]


def _blame(scene: Scene, culprit: Culprit, held: float) -> Blame:
    where = f"mount={culprit.name}" if culprit.kind == "filesystem" else "host"
    group = "statvfs" if culprit.kind == "filesystem" else GROUP
    return Blame(culprit, fact(culprit.claim, scene, held, "bytes", "/proc/meminfo, statvfs(3)", where), group)
