"""A file system has become read-only."""

from rca.conditions import missing, series_evidence
from rca.culprits import mount_itself
from rca.scene import Scene
from rca.spec import CauseSpec, Check, Happened, Outcome, Shown, Table

ERRORS = (Happened(("filesystem_error",)), Happened(("block_io_error",)),
          Check("block_errors_per_second", ">=", 1e-3, "peak"))


def _became(scene: Scene, entity: str) -> Outcome:
    """Writable before and read-only now; an image that has been read-only all along is none of our business."""
    found = scene.measures("filesystem_readonly", "mount", entity)
    known = [m for m in found if m.baseline == m.baseline]
    if not known:
        return Outcome(None, missing("filesystem_readonly", scene), "statvfs", "filesystem_readonly")
    holds = any(m.last >= 1.0 > 2.0 * m.baseline for m in known)
    return Outcome(holds, series_evidence(known[0], known[0].last), "statvfs", "filesystem_readonly")


CAUSE = CauseSpec(
    id="filesystem_readonly",
    title="read-only file system",
    mechanism="A file system was remounted read-only, by the kernel after an error or by somebody: no writes.",
    source="mount(8), remount and errors=remount-ro; ext4(5)",
    alerts=("FilesystemReadOnly",),
    tables=(
        Table(label="mount",
              needs=((Happened(("filesystem_readonly",)), Shown(_became)),),
              supports=(Shown(_became), *ERRORS)),
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
