"""The driver asks for a recovery of a GPU."""

from rca.gpu_xids import asks, xid
from rca.gpus import gpu_with_users
from rca.spec import CauseSpec, Check, Table

CAUSE = CauseSpec(
    id="gpu_recovery",
    title="GPU that needs a recovery",
    mechanism="The driver found a GPU in a state that it cannot leave by itself, and says what has to be done with it; "
              "until then jobs on it may fail.",
    source="NVML, NVML_FI_DEV_GET_GPU_RECOVERY_ACTION; NVIDIA Xid catalog (154)",
    alerts=("GpuRecoveryNeeded", "GpuXid"),
    tables=(Table(
        label="gpu",
        needs=((asks(),),),
        supports=(xid("memory", "uncontained", "repair", "nvlink", "firmware", "lost", "other"),
                  Check("gpu_ecc_uncorrected_per_second", ">=", 1e-6, "peak")),
    ),),
    headlines=("GPU {entity}: the driver asks for {gpu_recovery_action:told}",),
    summary=("The driver asks for {gpu_recovery_action:told} {gpu_recovery_action:ref}.",
             "It reported {gpu_xid:told} {gpu_xid:ref}.",
             "{claim} {blame:ref}."),
    tell_apart="nvidia-smi -q: GPU Recovery Action, and the XIDs of the kernel log before it",
    explains=("gpu_xid",),
    hard=True,
    specific=2,
    blame=gpu_with_users,
    culprit_needed=False,
)
