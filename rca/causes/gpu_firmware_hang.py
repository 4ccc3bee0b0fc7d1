"""A GPU's own controller does not answer the driver."""

from rca.gpu_xids import asks, xid
from rca.gpus import gpu_with_users
from rca.spec import CauseSpec, Table

CAUSE = CauseSpec(
    id="gpu_firmware_hang",
    title="GPU does not answer its driver (GSP)",
    mechanism="A processor inside the GPU that carries out the driver's orders hangs or failed; the GPU works no more "
              "until it is reset.",
    source="NVIDIA Xid catalog (46, 62, 109, 119, 120, 143, 158)",
    alerts=("GpuXid", "GpuProgramXid"),
    tables=(Table(
        label="gpu",
        needs=((xid("firmware"),),),
        supports=(asks(),),
    ),),
    headlines=("GPU {entity} does not answer its driver",),
    summary=("The driver waited for GPU {entity} in vain: it reported {gpu_xid:told} {gpu_xid:ref}.",
             "It asks for {gpu_recovery_action:told} {gpu_recovery_action:ref}.",
             "Programs on it hang or fail until it is reset."),
    tell_apart="the XID number: 119 and 120 are the system processor of the GPU, 79 would be a GPU that left the bus",
    explains=("gpu_xid", "gpu_recovery", "gpu_unresponsive", "gpu_application_error"),
    hard=True,
    specific=3,
    blame=gpu_with_users,
    culprit_needed=False,
)
