"""The GPU driver reported an error that is of none of the kinds with a cause of their own."""

from rca.gpu_xids import asks, xid
from rca.gpus import gpu_with_users
from rca.spec import CauseSpec, Check, Table

CAUSE = CauseSpec(
    id="gpu_xid",
    title="GPU error (XID)",
    mechanism="The driver reported an error of a GPU; what ran on it may fail or hang.",
    source="NVIDIA Xid catalog (docs.nvidia.com/deploy/xid-errors)",
    alerts=("GpuXid",),
    tables=(Table(
        label="gpu",
        needs=((xid("other"),),),
        supports=(Check("gpu_ecc_uncorrected_per_second", ">=", 1e-6, "peak"),
                  Check("gpu_pcie_replays_per_second", ">=", 0.1, "mean", 3.0),
                  asks()),
    ),),
    headlines=("GPU {entity} reported an error",),
    summary=("The driver reported {gpu_xid:told} {gpu_xid:ref}.",
             "It also counts uncorrectable memory errors {gpu_ecc_uncorrected_per_second:ref}.",
             "It asks for {gpu_recovery_action:told} {gpu_recovery_action:ref}.",
             "The number of the XID says whether the program, the driver or the hardware is at fault."),
    tell_apart="the XID number in the kernel log against NVIDIA's catalog",
    explains=("server_down",),
    hard=True,
    specific=2,
    blame=gpu_with_users,
    culprit_needed=False,
)
