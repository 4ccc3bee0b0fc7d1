"""A GPU reports errors that it has corrected."""

from rca.gpu_xids import xid
from rca.gpus import gpu_with_users
from rca.spec import CauseSpec, Check, Table

CAUSE = CauseSpec(
    id="gpu_errors_corrected",
    title="corrected errors of a GPU",
    mechanism="A GPU corrected errors by itself; nothing that runs on it is harmed, and many of them announce one that "
              "cannot be corrected.",
    source="NVIDIA Xid catalog (92, 121: no immediate action)",
    alerts=("GpuMinorXid",),
    tables=(Table(
        label="gpu",
        needs=((xid("corrected"),),),
        supports=(Check("gpu_ecc_corrected_per_second", ">=", 1e-6, "peak"),),
        refutes=(Check("gpu_ecc_uncorrected_per_second", ">=", 1e-6, "peak", why="some were not corrected"),),
    ),),
    headlines=("GPU {entity} reports errors that it has corrected",),
    summary=("The driver reported {gpu_xid:told} {gpu_xid:ref}.",
             "It corrects {gpu_ecc_corrected_per_second} at the most {gpu_ecc_corrected_per_second:ref}.",
             "What runs on it may run on."),
    tell_apart="nvidia-smi -q -d ECC: whether the counts of uncorrected errors stand still",
    explains=("gpu_xid",),
    hard=True,
    blame=gpu_with_users,
    culprit_needed=False,
)
