"""A file system has no space or no inodes left."""

from rca.loops import full_mount
from rca.spec import CauseSpec, Check, Table

CAUSE = CauseSpec(
    id="disk_full",
    title="full file system",
    mechanism="A file system has no free space or no free inodes left, so writes to it fail with ENOSPC.",
    source="statvfs(3), write(2): ENOSPC",
    alerts=("FilesystemFull", "FilesystemInodesFull"),
    tables=(Table(
        label="mount",
        needs=((Check("filesystem_used_ratio", ">=", 0.95, "last"),
                Check("filesystem_inodes_used_ratio", ">=", 0.95, "last")),),
        supports=(Check("filesystem_available_bytes", "<=", 1 << 30, stat="last", factor=0.7),),
    ),),
    headlines=("{entity} is full ({filesystem_used_ratio})", "{entity} has run out of inodes"),
    summary=(
        "{filesystem_used_ratio} of the space of {entity} is in use {filesystem_used_ratio:seen}.",
        "Left for ordinary users: {filesystem_available_bytes} {filesystem_available_bytes:ref}.",
        "{filesystem_inodes_used_ratio} of its inodes are in use {filesystem_inodes_used_ratio:ref}; when none is left "
        "no new file can be made, however much space is free.",
        "{claim} {blame:ref}.",
    ),
    tell_apart="df and df -i of the mount",
    explains=("disk_saturation", "disk_filling", "unit_failed", "device_errors"),
    hard=True,
    specific=3,
    blame=full_mount,
    culprit_needed=False,
)
