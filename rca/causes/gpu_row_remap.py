"""Memory of a GPU waits for its repair, or cannot be repaired."""

from rca.gpus import gpu_with_users
from rca.spec import CauseSpec, Check, Table

_TOLD = (Check("gpu_ecc_uncorrected_per_second", ">=", 1e-6, "peak"),
         Check("gpu_recovery_action", ">=", 1.0, "last"))
CAUSE = CauseSpec(
    id="gpu_row_remap",
    title="GPU memory to be repaired",
    mechanism="A row of a GPU's memory failed; a spare row takes its place at the next reset, and where none is left "
              "the GPU has to be replaced.",
    source="NVIDIA, GPU memory error management (row remapping, page retirement)",
    alerts=("GpuRowRemapPending", "GpuRowRemapFailed"),
    tables=(
        Table(label="gpu", needs=((Check("gpu_rows_remap_failed", ">=", 0.5, "last"),),), supports=_TOLD,
              headlines=("Memory of GPU {entity} could not be repaired: replace the GPU",)),
        Table(label="gpu",
              needs=((Check("gpu_rows_remap_pending", ">=", 0.5, "last"),
                      Check("gpu_pages_retire_pending", ">=", 0.5, "last")),),
              supports=_TOLD, refutes=(Check("gpu_rows_remap_failed", ">=", 0.5, "last", why="the repair has failed"),),
              headlines=("Memory of GPU {entity} is repaired by a reset",)),
    ),
    headlines=("Memory of GPU {entity} is to be repaired",),
    summary=("A row of the memory of GPU {entity} waits for the next reset to be replaced by a spare one "
             "{gpu_rows_remap_pending:ref}.",
             "Memory of GPU {entity} goes out of use at the next reset {gpu_pages_retire_pending:ref}.",
             "A row of the memory of GPU {entity} could not be replaced {gpu_rows_remap_failed:ref}.",
             "It met memory errors that were not corrected {gpu_ecc_uncorrected_per_second:ref}.",
             "The driver asks for a recovery of the GPU {gpu_recovery_action:ref}."),
    tell_apart="nvidia-smi -q -d ROW_REMAPPER: pending means a reset, failure a new GPU",
    hard=True,
    specific=3,
    blame=gpu_with_users,
    culprit_needed=False,
)
