"""A control group meets its own I/O limit."""

from rca.io_limits import limited_group, spare_disk
from rca.spec import CauseSpec, Check, Shown, Table

CAUSE = CauseSpec(
    id="cgroup_io_throttling",
    title="I/O limit of a control group",
    mechanism="A control group uses all the I/O it may on a device, and its requests wait however idle the disk is.",
    source="kernel docs admin-guide/cgroup-v2 (io.max), cgroup-v1/blkio-controller (blkio.throttle)",
    alerts=("CgroupIoThrottled",),
    tables=(Table(
        label="cgroup",
        needs=((Check("cgroup_io_limit_used_ratio", ">=", 0.85, "mean"),),),
        supports=(Shown(spare_disk, ("disk_busy_ratio",)), Check("pressure_io_some_ratio", ">=", 0.10, factor=1.5),
                  Check("cpu_blocked_tasks", ">=", 1.0)),
    ),),
    headlines=("{entity} is held back by its own I/O limit",),
    summary=(
        "{claim} {blame:ref}.",
        "It used {cgroup_io_limit_used_ratio} of its limit ({cgroup_io_limit_used_ratio:what}) "
        "{cgroup_io_limit_used_ratio:ref}.",
        "The disk itself was busy {disk_busy_ratio} of the time {disk_busy_ratio:ref}: it could do more.",
        "Some task waited for I/O {pressure_io_some_ratio} of the time {pressure_io_some_ratio:ref}.",
    ),
    tell_apart="io.stat against io.max of the group (v1: blkio.throttle.io_service_bytes against *_bps_device)",
    explains=("disk_saturation", "io_stall"),
    specific=3,
    blame=limited_group,
    culprit_needed=False,
)
