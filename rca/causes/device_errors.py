"""A disk, file system, network card or PCIe device fails, and the kernel says so."""

from rca.culprits import device_itself
from rca.loops import kept_in
from rca.spec import CauseSpec, Check, Happened, Shown, Table

CAUSE = CauseSpec(
    id="device_errors",
    title="errors of a device",
    mechanism="A device, or the path to it, fails requests; the kernel gives up on them, or has to reset the device.",
    source="messages of block/blk-core.c, fs/ext4, fs/xfs, net/sched/sch_generic.c, drivers/pci/pcie/aer.c",
    alerts=("KernelIoError", "BlockDeviceErrors", "FilesystemError", "FilesystemReadOnly", "NicReset", "PcieError"),
    tables=(Table(
        label="device",
        needs=((Happened(("block_io_error",)), Happened(("block_device_reset",)), Happened(("filesystem_error",)),
                Happened(("nic_reset",)), Happened(("pcie_error",)),
                Check("block_errors_per_second", ">=", 1e-3, "peak")),),
        # Read-only alone is no error of a device: a person may have remounted it (filesystem_readonly).
        supports=(Check("block_errors_per_second", ">=", 1e-3, "peak"), Happened(("filesystem_readonly",)),
                  Check("hardware_nvme_live", "<=", 0.0, "last"), Shown(kept_in)),
    ),),
    headlines=("{entity} fails",),
    summary=(
        "Requests to {entity} fail {block_io_error:ref}.",
        "The kernel had to reset {entity}, which did not answer in time {block_device_reset:ref}.",
        "The file system on {entity} is damaged {filesystem_error:ref}.",
        "The file system on {entity} has become read-only {filesystem_readonly:ref}.",
        "The network card {entity} did not send and had to be reset {nic_reset:ref}.",
        "The PCIe link of {entity} reports errors that were not corrected {pcie_error:ref}.",
        "Failed block requests: {block_errors_per_second} {block_errors_per_second:ref}.",
        "{entity} keeps its data in {kept_in:told} {kept_in:ref}.",
    ),
    tell_apart="the kernel log around the first error, and the device's own health report (smartctl, nvme smart-log)",
    explains=("io_stall", "packet_loss", "filesystem_readonly"),
    hard=True,
    specific=3,
    blame=device_itself,
    culprit_needed=False,
)
