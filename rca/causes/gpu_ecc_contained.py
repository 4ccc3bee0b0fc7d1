"""A memory error of a GPU that ended one program and no other."""

from rca.gpu_xids import xid
from rca.gpus import gpu_with_victim
from rca.spec import CauseSpec, Check, Table

CAUSE = CauseSpec(
    id="gpu_ecc_contained",
    title="memory error of a GPU that ended one program",
    mechanism="Memory of a GPU failed while one program used it; the driver ended that program, nobody else met the "
              "error, and the broken row is avoided until a reset replaces it.",
    source="NVIDIA Xid catalog (94: restart the program); NVIDIA, GPU memory error management (error containment)",
    alerts=("GpuMinorXid", "GpuEccErrors", "GpuXid", "GpuProgramXid"),
    tables=(Table(
        label="gpu",
        needs=((xid("contained"),),),
        supports=(Check("gpu_ecc_uncorrected_per_second", ">=", 1e-6, "peak"),
                  Check("gpu_rows_remap_pending", ">=", 0.5, "last")),
        refutes=(xid("uncontained", "unrepaired", why="the error was not contained, or cannot be repaired"),),
    ),),
    headlines=("A memory error of GPU {entity} ended one program",),
    summary=("The driver reported {gpu_xid:told} {gpu_xid:ref}.",
             "{claim} {blame:ref}.",
             "The error was contained: the program can be started again on this GPU.",
             "A row waits for the next reset to be replaced {gpu_rows_remap_pending:ref}."),
    tell_apart="whether XID 95 or 140 follows (then it was not contained), and nvidia-smi -q -d ROW_REMAPPER",
    explains=("gpu_xid", "gpu_row_remap", "gpu_application_error", "server_down"),
    hard=True,
    specific=3,
    blame=gpu_with_victim,
    culprit_needed=False,
)
