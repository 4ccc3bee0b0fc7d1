"""Memory of a GPU waits for its repair."""

from rca.gpu_xids import asks, xid
from rca.gpus import gpu_with_users
from rca.spec import CauseSpec, Check, Table

CAUSE = CauseSpec(
    id="gpu_row_remap",
    title="GPU memory to be repaired",
    mechanism="A row of a GPU's memory failed; it is avoided, and a spare row takes its place at the next reset.",
    source="NVIDIA, GPU memory error management (row remapping, page retirement); NVIDIA Xid catalog (63, 156)",
    alerts=("GpuRowRemapPending", "GpuMinorXid", "GpuXid"),
    tables=(Table(
        label="gpu",
        needs=((Check("gpu_rows_remap_pending", ">=", 0.5, "last"),
                Check("gpu_pages_retire_pending", ">=", 0.5, "last"), xid("repair")),),
        supports=(Check("gpu_ecc_uncorrected_per_second", ">=", 1e-6, "peak"), asks()),
        refutes=(Check("gpu_rows_remap_failed", ">=", 0.5, "last", why="the repair has failed"),
                 xid("unrepaired", why="the repair has failed")),
    ),),
    headlines=("Memory of GPU {entity} is repaired by a reset",),
    summary=("The driver reported {gpu_xid:told} {gpu_xid:ref}.",
             "A row of the memory of GPU {entity} waits for the next reset to be replaced by a spare one "
             "{gpu_rows_remap_pending:ref}.",
             "Memory of GPU {entity} goes out of use at the next reset {gpu_pages_retire_pending:ref}.",
             "It met memory errors that were not corrected {gpu_ecc_uncorrected_per_second:ref}.",
             "The driver asks for {gpu_recovery_action:told} {gpu_recovery_action:ref}."),
    tell_apart="nvidia-smi -q -d ROW_REMAPPER: pending means a reset, failure a new GPU",
    explains=("gpu_xid", "gpu_recovery"),
    hard=True,
    specific=3,
    blame=gpu_with_users,
    culprit_needed=False,
)
