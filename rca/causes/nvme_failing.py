"""An NVMe drive says that it is failing, or could not get data back."""

from rca.drives import drive_itself
from rca.spec import CauseSpec, Check, Table


def _told(what: str) -> Check:
    return Check(f"nvme_{what}_warning", ">=", 0.5, "last")


_ERRORS = Check("nvme_media_errors_per_second", ">=", 1e-6, "peak")
_MORE = (_told("spare"), _told("reliability"), _ERRORS, Check("nvme_media_errors", ">=", 1.0, "last"),
         Check("nvme_wear_ratio", ">=", 0.9, "last"), Check("hardware_nvme_live", "<=", 0.0, "last"))
CAUSE = CauseSpec(
    id="nvme_failing",
    title="NVMe drive fails",
    mechanism="A drive has used up its spare blocks, or its flash or controller is damaged; it says so in its health "
              "log, and loses data or stops to take writes.",
    source="NVM Express Base Specification 2.0, SMART / Health Information: critical warning, media errors",
    alerts=("NvmeFailing", "NvmeMediaErrors"),
    tables=(
        Table(label="device", needs=((_told("readonly"),),), supports=_MORE,
              headlines=("Drive {entity} takes no writes any more: replace it",)),
        Table(label="device", needs=((_told("reliability"), _told("spare"), _told("memory_region")),), supports=_MORE,
              headlines=("Drive {entity} says that it is failing: replace it",)),
        Table(label="device", needs=((_told("backup"),),), supports=_MORE,
              headlines=("Drive {entity} cannot keep its cache over a power cut: replace it",)),
        Table(label="device", needs=((_ERRORS,),), supports=_MORE,
              headlines=("Drive {entity} could not get data back",)),
    ),
    headlines=("Drive {entity} fails",),
    summary=(
        "{claim} {blame:ref}.",
        "It has become read-only {nvme_readonly_warning:ref}.",
        "It warns that media errors or errors of its own have made it unreliable {nvme_reliability_warning:ref}.",
        "Fewer spare blocks are left than it holds necessary {nvme_spare_warning:ref}.",
        "What saves its cache when the power fails does not work {nvme_backup_warning:ref}.",
        "Its persistent memory region cannot be relied on {nvme_memory_region_warning:ref}.",
        "Data could not be read back just now {nvme_media_errors_per_second:ref}.",
        "Media errors so far: {nvme_media_errors} {nvme_media_errors:ref}.",
        "{nvme_wear_ratio} of its endurance is used {nvme_wear_ratio:ref}.",
    ),
    tell_apart="nvme smart-log of the drive: critical_warning, media_errors and available_spare",
    explains=("device_errors", "filesystem_readonly", "io_stall"),
    hard=True,
    specific=3,
    blame=drive_itself,
    culprit_needed=False,
)
