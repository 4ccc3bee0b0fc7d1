"""A GPU has fallen off the bus."""

from rca.gpu_xids import numbered, xid
from rca.gpus import gpu_with_users
from rca.spec import CauseSpec, Check, Table

OFF_BUS = 79
_BEFORE = (Check("gpu_pcie_replays_per_second", ">=", 0.1, "peak", 3.0),
           Check("gpu_temperature_celsius", ">=", 90.0, "peak"))

CAUSE = CauseSpec(
    id="gpu_lost",
    title="GPU fallen off the bus",
    mechanism="A GPU no longer answers on the PCIe bus; everything that ran on it is lost, and calls to its driver may "
              "hang.",
    source="NVIDIA Xid catalog (79); NVML_ERROR_GPU_IS_LOST",
    alerts=("GpuLost", "GpuXid", "GpuProgramXid"),
    tables=(
        Table(label="gpu", needs=((xid("lost"),), (numbered(OFF_BUS),)), supports=_BEFORE,
              headlines=("GPU {entity} has fallen off the bus",)),
        Table(label="gpu", needs=((xid("lost"),),), supports=_BEFORE, refutes=(numbered(OFF_BUS),)),
    ),
    headlines=("GPU {entity} does not answer any more",),
    summary=("GPU {entity} no longer answers: {gpu_xid:told} {gpu_xid:ref}.",
             "Before, its link had to send packets again {gpu_pcie_replays_per_second:ref}.",
             "Before, it was as hot as {gpu_temperature_celsius} {gpu_temperature_celsius:ref}.",
             "What ran on it is lost; it comes back with a restart of the machine, if at all."),
    tell_apart="nvidia-smi -L lists one GPU less, or lspci shows (rev ff)",
    explains=("gpu_xid", "gpu_recovery", "gpu_unresponsive", "gpu_firmware_hang", "gpu_nvlink_errors",
              "gpu_application_error"),
    hard=True,
    specific=3,
    blame=gpu_with_users,
    culprit_needed=False,
)
