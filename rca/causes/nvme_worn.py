"""An NVMe drive has used up what its maker promised."""

from rca.drives import drive_itself
from rca.spec import CauseSpec, Check, Table

CAUSE = CauseSpec(
    id="nvme_worn",
    title="NVMe drive worn out",
    mechanism="Flash endures a number of writes; by the estimate of its maker this drive has used nearly all of them.",
    source="NVM Express Base Specification 2.0, SMART / Health Information: percentage used",
    alerts=("NvmeWorn",),
    tables=(Table(
        label="device",
        needs=((Check("nvme_wear_ratio", ">=", 0.9, "last"),),),
        supports=(Check("nvme_spare_ratio", "<=", 0.5, "last"),),
    ),),
    headlines=("Drive {entity} is worn out",),
    summary=(
        "{claim} {blame:ref}.",
        "{nvme_wear_ratio} of the endurance that its maker expects is used {nvme_wear_ratio:ref}.",
        "{nvme_spare_ratio} of its spare blocks are left {nvme_spare_ratio:ref}.",
    ),
    tell_apart="percentage_used and available_spare in nvme smart-log: it works until no spare is left",
    hard=True,
    specific=2,
    blame=drive_itself,
    culprit_needed=False,
)
