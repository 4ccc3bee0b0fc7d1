"""A file system fills up and will be full soon."""

from rca.forecast import declining, foreseen
from rca.mount_writers import mount_and_writer
from rca.spec import CauseSpec, Check, Table

CAUSE = CauseSpec(
    id="disk_filling",
    title="file system that fills up",
    mechanism="Something writes to a file system faster than space or inodes are given back, so writes will fail with "
              "ENOSPC.",
    source="statvfs(3); Sen (1968), JASA 63(324) for the slope and its interval",
    alerts=("FilesystemFillsSoon", "InodesRunOutSoon"),
    tables=(Table(
        label="mount",
        needs=((foreseen("mount", "FilesystemFillsSoon", "InodesRunOutSoon"),),),
        supports=(declining("filesystem_available_bytes", "mount"),),
        refutes=(Check("filesystem_used_ratio", ">=", 0.99, "last", why="it is full already"),),
    ),),
    headlines=("{entity} fills up: {forecast:told}", "{entity} fills up"),
    summary=(
        "At the pace of the last measurements {entity} has {forecast:told} {forecast:ref}.",
        "Left for ordinary users now: {filesystem_available_bytes} {filesystem_available_bytes:seen}.",
        "{claim} {blame:ref}.",
    ),
    tell_apart="df of the mount twice, some minutes apart, and the growth of its largest directories",
    explains=("disk_saturation",),
    hard=True,
    specific=2,
    blame=mount_and_writer,
    culprit_needed=False,
)
