"""Understands /proc/self/mountinfo: which mounts there are, and which of them are worth following."""

from collections.abc import Iterable
from dataclasses import dataclass

from collector.table import text, whole_lines
from etio.core.errors import Broken, NoData

KERNEL_TYPES = frozenset(
    b"autofs binder binfmt_misc bpf cgroup cgroup2 configfs cpuset debugfs devpts devtmpfs efivarfs fuse.gvfsd-fuse "
    b"fuse.lxcfs fuse.portal fusectl hugetlbfs mqueue nfsd nsfs overlay pipefs proc pstore ramfs resctrl rootfs "
    b"rpc_pipefs secretmem securityfs selinuxfs smackfs sockfs sysfs tracefs".split()
)
"""Nothing in them can fill up. An overlay's room is that of the file system below it."""
IMAGE_TYPES = frozenset(b"cramfs erofs iso9660 romfs squashfs udf".split())
"""Images: always full, never written."""
NETWORK_TYPES = frozenset(
    b"9p afs beegfs ceph cifs coda davfs fuse.ceph fuse.cephfs fuse.gcsfuse fuse.glusterfs fuse.goofys fuse.juicefs "
    b"fuse.rclone fuse.s3fs fuse.sshfs gfs2 glusterfs gpfs lustre ncpfs nfs nfs4 ocfs2 orangefs pvfs2 smb3 smbfs "
    b"virtiofs weka wekafs".split()
)
"""Their statvfs() waits for a server."""


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount. device_number: "major:minor" of its file system; root: the folder of it that is mounted.

    source, point: as the kernel prints them, escapes resolved. Bytes, because paths are.
    """

    device_number: bytes
    root: bytes
    point: bytes
    type: bytes
    source: bytes
    readonly: bool

    @property
    def may_hang(self) -> bool:
        """Whether asking it can wait for ever."""
        return self.type in NETWORK_TYPES or self.type.startswith(b"fuse")

    @property
    def identity(self) -> tuple[bytes, bytes]:
        """What stays the same when it is mounted anew with other options."""
        return self.device_number, self.point

    @property
    def labels(self) -> tuple[str, str, str]:
        """(device, mount, type)."""
        return text(self.source), text(self.point), text(self.type)


def parse_mountinfo(data: bytes) -> list[Mount]:
    """Every mount, in the order of the file; a line that is cut or odd is left out.

    Line: `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`.
    Raises NoData for an empty file, Broken where no line is of this form.
    """
    if not data:
        raise NoData("empty")
    mounts = [m for m in map(_mount, whole_lines(data)) if m is not None]
    if not mounts:
        raise Broken("no line is a mount")
    return mounts


def _mount(line: bytes) -> Mount | None:
    left, dash, right = line.partition(b" - ")
    fields, rest = left.split(b" "), right.split(b" ")
    if not dash or len(fields) < 6 or len(rest) < 3:
        return None
    # The options of the file system, not those of the mount (field 5): a sandbox binds everything read-only for its
    # own service, while errors=remount-ro and `mount -o remount,ro` show here.
    readonly = b"ro" in rest[2].split(b",")
    return Mount(fields[2], unescape(fields[3]), unescape(fields[4]), rest[0], unescape(rest[1]), readonly)


def unescape(name: bytes) -> bytes:
    r"""Resolves the octal escapes of blanks and backslashes.

    >>> unescape(rb"/mnt/two\\040words")
    b'/mnt/two words'
    """
    head, *parts = name.split(b"\\")
    return head + b"".join(_one(p) for p in parts)


def _one(part: bytes) -> bytes:
    code = part[:3]
    if len(code) == 3 and all(c in b"01234567" for c in code) and int(code, 8) < 256:
        return bytes([int(code, 8)]) + part[3:]
    return b"\\" + part


def worth_following(mounts: Iterable[Mount], skip_below: tuple[str, ...] = ()) -> list[Mount]:
    """Those that can fill up, one for each file system: the mount of its root, else the shortest path to it.

    Of several mounts on one point only the last is reachable.
    """
    top = {m.point: m for m in mounts}
    best: dict[bytes, Mount] = {}
    for mount in top.values():
        if not _can_fill(mount) or _below(mount.point, skip_below):
            continue
        other = best.get(mount.device_number)
        if other is None or _rank(mount) < _rank(other):
            best[mount.device_number] = mount
    return list(best.values())


def _can_fill(mount: Mount) -> bool:
    if mount.type == b"overlay" and mount.point == b"/":  # all that a container sees of its disk
        return True
    return mount.type not in KERNEL_TYPES and mount.type not in IMAGE_TYPES


def _below(point: bytes, folders: tuple[str, ...]) -> bool:
    return any(point == f.encode() or point.startswith(f.encode() + b"/") for f in folders)


def _rank(mount: Mount) -> tuple[bool, int]:
    return mount.root != b"/", len(mount.point)
