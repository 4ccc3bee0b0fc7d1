"""An NVMe drive is too hot and slows itself down."""

from rca.drives import drive_itself
from rca.spec import CauseSpec, Check, Table

_HOT = Check("nvme_temperature_warning", ">=", 0.5, "last")
_SLOWED = Check("nvme_throttled_ratio", ">=", 0.05, "last")
CAUSE = CauseSpec(
    id="nvme_hot",
    title="NVMe drive too hot",
    mechanism="A drive reaches the temperature at which it warns, or slows itself down so as not to get hotter.",
    source="NVM Express Base Specification 2.0, SMART / Health Information: composite temperature, host controlled "
           "thermal management",
    alerts=("NvmeHot",),
    tables=(Table(
        label="device",
        needs=((_HOT, _SLOWED),),
        supports=(Check("nvme_temperature_celsius", ">=", 70.0, "last"),
                  Check("nvme_warning_temperature_ratio", ">=", 1e-6, "last"),
                  Check("nvme_critical_temperature_ratio", ">=", 1e-6, "last")),
        refutes=(Check("nvme_temperature_celsius", "<=", 5.0, "last", why="it is cold, not hot"),),
    ),),
    headlines=("Drive {entity} is too hot",),
    summary=(
        "{claim} {blame:ref}.",
        "Its temperature is {nvme_temperature_celsius} {nvme_temperature_celsius:ref}.",
        "It warns of its temperature {nvme_temperature_warning:ref}.",
        "It has slowed itself down for {nvme_throttled_ratio} of the time {nvme_throttled_ratio:ref}.",
        "It has been above its critical temperature {nvme_critical_temperature_ratio:ref}.",
    ),
    tell_apart="nvme smart-log of the drive beside those of its neighbours: one hot drive, or all of them",
    hard=True,
    specific=2,
    blame=drive_itself,
    culprit_needed=False,
)
