"""Memory of a GPU has errors that were not corrected."""

from rca.gpu_xids import asks, xid
from rca.gpus import gpu_with_users
from rca.spec import CauseSpec, Check, Table

CAUSE = CauseSpec(
    id="gpu_ecc_errors",
    title="uncorrectable memory errors of a GPU",
    mechanism="Memory of a GPU returned data that its error correction could not mend; what ran on it may be wrong.",
    source="NVML ECC counters; NVIDIA Xid catalog (48, 95, 140 ...) and GPU memory error management",
    alerts=("GpuEccErrors", "GpuXid", "GpuProgramXid"),
    tables=(Table(
        label="gpu",
        needs=((Check("gpu_ecc_uncorrected_per_second", ">=", 1e-6, "peak"), xid("memory", "uncontained")),),
        supports=(Check("gpu_ecc_corrected_per_second", ">=", 1e-6, "peak"),
                  Check("gpu_rows_remap_pending", ">=", 0.5, "last"),
                  asks()),
        refutes=(xid("contained", unless=("uncontained",), why="the error ended one program and harmed no other"),),
    ),),
    headlines=("Memory of GPU {entity} has errors",),
    summary=(
        "GPU {entity} counted memory errors that were not corrected {gpu_ecc_uncorrected_per_second:ref}.",
        "The driver reported {gpu_xid:told} {gpu_xid:ref}.",
        "It also corrects errors: {gpu_ecc_corrected_per_second} at the most {gpu_ecc_corrected_per_second:ref}.",
        "A row waits for a reset to be replaced {gpu_rows_remap_pending:ref}.",
        "The driver asks for {gpu_recovery_action:told} {gpu_recovery_action:ref}.",
        "Results of what ran on it since an error that was not corrected {gpu_ecc_uncorrected_per_second:ref} may be "
        "wrong.",
    ),
    tell_apart="nvidia-smi -q -d ECC,ROW_REMAPPER: errors since the driver was loaded, and rows waiting for remapping",
    explains=("gpu_xid", "gpu_row_remap", "gpu_recovery", "gpu_application_error"),
    hard=True,
    specific=3,
    blame=gpu_with_users,
    culprit_needed=False,
)
