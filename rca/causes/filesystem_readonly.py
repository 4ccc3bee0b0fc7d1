"""A file system has become read-only."""

from rca.culprits import mount_itself
from rca.spec import CauseSpec, Check, Happened, Table

ERRORS = (Happened(("filesystem_error",)), Happened(("block_io_error",)),
          Check("block_errors_per_second", ">=", 1e-3, "peak"))

CAUSE = CauseSpec(
    id="filesystem_readonly",
    title="read-only file system",
    mechanism="A file system was remounted read-only, by the kernel after an error or by somebody: no writes.",
    source="mount(8), remount and errors=remount-ro; ext4(5)",
    alerts=("FilesystemReadOnly",),
    tables=(
        Table(label="mount",
              needs=((Happened(("filesystem_readonly",)), Check("filesystem_readonly", ">=", 1.0, "last")),),
              supports=(Check("filesystem_readonly", ">=", 1.0, "last"), *ERRORS)),
        Table(label="device", needs=((Happened(("filesystem_readonly",)),),), supports=ERRORS),
    ),
    headlines=("The file system {entity} has become read-only",),
    summary=(
        "{entity} has become read-only {filesystem_readonly:ref}: every write to it fails.",
        "The kernel reports that it is damaged {filesystem_error:ref}.",
        "Requests to its device fail {block_io_error:ref}.",
    ),
    tell_apart="an error of the file system or device in the kernel log just before; without one somebody remounted it",
    hard=True,
    specific=2,
    blame=mount_itself,
    culprit_needed=False,
)
