"""The GPU driver reported an error, or lost the GPU."""

from rca.culprits import gpu_itself
from rca.spec import CauseSpec, Check, Happened, Table

CAUSE = CauseSpec(
    id="gpu_xid",
    title="GPU error (XID)",
    mechanism="The driver reported an error of a GPU, or the GPU has fallen off the bus; its work fails or hangs.",
    source="NVIDIA Xid catalog (docs.nvidia.com/deploy/xid-errors)",
    alerts=("GpuXid", "GpuEccErrors"),
    tables=(Table(
        label="gpu",
        needs=((Happened(("gpu_xid", "gpu_lost")),),),
        supports=(Check("gpu_ecc_uncorrected_per_second", ">=", 1e-6, "peak"),
                  Check("gpu_pcie_replays_per_second", ">=", 0.1, "mean", 3.0)),
    ),),
    headlines=("GPU {entity} reported an error",),
    summary=("The driver reported an error of GPU {entity} {gpu_xid:ref}.",
             "It also counts uncorrectable memory errors {gpu_ecc_uncorrected_per_second:ref}.",
             "The number of the XID says whether the program, the driver or the hardware is at fault."),
    tell_apart="the XID number in the kernel log against NVIDIA's catalog",
    hard=True,
    specific=3,
    blame=gpu_itself,
    culprit_needed=False,
)
