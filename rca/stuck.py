"""Tasks that hang in the kernel: what they wait for, told from the functions they sleep in.

The collector of task states puts one fact for each into Facts.extra: ("stuck pid=N comm=X", "f; f < g < h; 9 s").
Names of functions are those of the kernel's sources (fs/super.c, net/sunrpc, fs/fuse, block/, mm/vmscan.c); a stack
that fits nothing here is unknown, not guessed at.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from etio.core.evidence import Evidence
from etio.core.report import Culprit
from rca.culprits import fact, stalled_device
from rca.scene import Scene
from rca.spec import Blame, Outcome
from rca.units import clean, plural

SOURCE = "/proc/PID/stack"
GROUP = "kernel stack"
BUSY = 20.0
"""A disk that completes so many requests a second answers."""
_KEY = re.compile(r"stuck pid=(\d{1,10}) comm=(.*)", re.DOTALL)
_FOR = re.compile(r"(\d{1,9}) s\Z")
_PATH = re.compile(r"/[^\s=,;'\"]+")
_WRITES = ("vfs_write", "vfs_iter", "do_iter", "mnt_want_write", "vfs_truncate", "do_truncate", "do_sys_ftruncate",
           "vfs_fallocate", "ext4_page_mkwrite", "iomap_page_mkwrite", "filemap_page_mkwrite", "xfs_trans_alloc",
           "ext4_journal", "btrfs_", "f2fs_", "ovl_", "io_write", "aio_write", "sb_start", "__sb_start")
WAITS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("nfs", "the server of an NFS file system", ("nfs_", "nfs4_", "rpc_", "__rpc_", "xs_")),
    ("smb", "the server of an SMB file system", ("cifs_", "smb2_", "SMB2_", "smb3_")),
    ("fuse", "the program behind a FUSE file system", ("fuse_", "__fuse_", "request_wait_answer")),
    ("remote", "the server of a network file system", ("ceph_", "p9_", "v9fs_", "afs_", "ll_", "ptlrpc_", "gfs2_")),
    ("memory", "memory to be reclaimed", ("shrink_", "try_to_free", "throttle_direct", "mem_cgroup", "balance_dirty")),
    ("gpu", "the GPU driver", ("nvidia_", "uvm_", "nv_", "os_acquire", "amdgpu_", "dma_fence")),
    ("device", "a block device", (
        "io_schedule", "bio_", "blk_", "submit_bio", "folio_wait", "wait_on_page", "__wait_on_buffer", "bit_wait_io",
        "dio_", "__iomap_dio", "iomap_dio", "blkdev_", "jbd2_", "xlog_", "xfs_buf", "xfs_log", "wb_wait", "sync_inodes",
        "filemap_fdatawait", "do_get_write_access", "md_", "raid", "dm_")),
)
"""Name, words, and how a function on the stack begins; the first that fits any function counts."""
IO = frozenset(("frozen", "nfs", "smb", "fuse", "remote", "device"))


@dataclass(frozen=True, slots=True)
class Hanging:
    """One task that hangs. frames: innermost first. waits: one of WAITS, "frozen", or "" = unknown."""

    pid: int
    comm: str
    frames: tuple[str, ...]
    seconds: int
    waits: str
    what: str


def waits_for(frames: Sequence[str]) -> tuple[str, str]:
    """(name, words) of what a task waits for; ("", "") where its stack says nothing that is known here.

    >>> waits_for(("percpu_rwsem_wait", "vfs_write", "ksys_write"))
    ('frozen', 'a frozen file system')
    """
    behind = [f for f in frames[:3] if f not in ("percpu_rwsem_wait", "__percpu_down_read")]
    if len(behind) < len(frames[:3]) and behind and behind[0].startswith(_WRITES):
        return "frozen", "a frozen file system"
    for name, words, starts in WAITS:
        if any(f.startswith(starts) for f in frames):
            return name, words
    return "", ""


def hanging(scene: Scene) -> list[Hanging]:
    """The tasks that the facts tell, those that wait for I/O first, then by time."""
    found = []
    for key, value in scene.facts.extra:
        known, parts = _KEY.fullmatch(key), value.split("; ")
        if known and len(parts) >= 3:
            frames = tuple(parts[1].split(" < "))
            lasting = _FOR.search(parts[-1])
            seconds = int(lasting[1]) if lasting else 0
            found.append(Hanging(int(known[1]), known[2], frames, seconds, *waits_for(frames)))
    return sorted(found, key=lambda h: (h.waits not in IO, -h.seconds))


def waits_for_io(scene: Scene, _entity: str) -> Outcome:
    """Whether what hangs waits for I/O. Not known where no stack could be read or none is understood."""
    tasks = hanging(scene)
    if not tasks or not tasks[0].waits:
        none = Evidence("", "missing", "what the hanging tasks wait for: not known", coverage=0.0, source=SOURCE)
        return Outcome(None, none, GROUP, "waits_for_io")
    first = tasks[0]
    answers = first.waits == "device" and any(
        scene.value(f"disk_{way}_per_second") >= BUSY for way in ("reads", "writes"))
    said = f"{_who(first)} waits for {first.what}" + (", and disks answer" if answers else "")
    return Outcome(first.waits in IO and not answers, _evidence(scene, said, first), GROUP, "waits_for_io")


def stalled(scene: Scene, entity: str) -> Blame | None:
    """The device that does not answer; else what the tasks that hang wait for."""
    tasks = hanging(scene)
    if entity or not tasks or tasks[0].waits not in IO:
        return stalled_device(scene, entity)
    first = tasks[0]
    named, where = _mount(scene, first)
    others = f", and {plural(len(tasks) - 1, 'other task')}" if len(tasks) > 1 else ""
    caller = f" (called by {clean(first.frames[1], 60)})" if len(first.frames) > 1 else ""
    claim = (f"{_who(first)} has not run for {first.seconds} s{others}: it waits for {first.what} in the kernel's "
             f"{clean(first.frames[0], 60)}{caller}{where}")
    frozen = bool(named) and first.waits == "frozen"
    name = f"the frozen file system {named}" if frozen else first.what
    entity = f"pid={first.pid},mount={named}" if frozen else f"pid={first.pid}"
    return Blame(Culprit("filesystem" if first.waits != "device" else "device", name, claim=claim),
                 replace(_evidence(scene, claim, first), entity=entity), GROUP)


def _who(task: Hanging) -> str:
    return f"{clean(task.comm, 40)} (pid {task.pid})"


def _evidence(scene: Scene, claim: str, task: Hanging) -> Evidence:
    return fact(claim, scene, float(task.seconds), "seconds", SOURCE, f"pid={task.pid}")


def _mount(scene: Scene, task: Hanging) -> tuple[str, str]:
    """(mount point, words) where the command line of the task names a path below one; ("", "") where it does not."""
    process = scene.census.process(task.pid)
    mounts = {m.series.label("mount") or "" for m in scene.measures("filesystem_used_ratio")} - {"", "/"}
    for path in _PATH.findall(process.cmdline if process else ""):
        below = [m for m in mounts if path == m or path.startswith(m.rstrip("/") + "/")]
        if below:
            mount = clean(max(below, key=len), 80)
            return mount, f"; its command line names {clean(path, 80)}, on the mount {mount}"
    return "", ""
