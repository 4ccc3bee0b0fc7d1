"""Memory of a GPU that cannot be repaired."""

from rca.gpu_xids import asks, xid
from rca.gpus import gpu_with_users
from rca.spec import CauseSpec, Check, Table

CAUSE = CauseSpec(
    id="gpu_unrepairable",
    title="GPU memory that cannot be repaired",
    mechanism="A row of a GPU's memory failed and no spare row was left for it, so errors come back: the GPU has to be "
              "replaced.",
    source="NVIDIA, GPU memory error management (row remapping failure); NVIDIA Xid catalog (64, 157)",
    alerts=("GpuRowRemapFailed", "GpuXid"),
    tables=(Table(
        label="gpu",
        needs=((Check("gpu_rows_remap_failed", ">=", 0.5, "last"), xid("unrepaired")),),
        supports=(Check("gpu_ecc_uncorrected_per_second", ">=", 1e-6, "peak"), asks()),
    ),),
    headlines=("Memory of GPU {entity} could not be repaired: replace the GPU",),
    summary=("The driver reported {gpu_xid:told} {gpu_xid:ref}.",
             "A row of the memory of GPU {entity} could not be replaced {gpu_rows_remap_failed:ref}.",
             "It met memory errors that were not corrected {gpu_ecc_uncorrected_per_second:ref}.",
             "The driver asks for {gpu_recovery_action:told} {gpu_recovery_action:ref}."),
    tell_apart="nvidia-smi -q -d ROW_REMAPPER: a remapping failure that a reset does not end",
    explains=("gpu_xid", "gpu_row_remap", "gpu_ecc_errors", "gpu_recovery", "gpu_application_error"),
    hard=True,
    specific=3,
    blame=gpu_with_users,
    culprit_needed=False,
)
