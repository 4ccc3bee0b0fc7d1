"""The driver of the GPUs does not answer."""

from rca.culprits import named
from rca.scene import Scene
from rca.spec import Blame, CauseSpec, Check, Happened, Table


def _driver(scene: Scene, _entity: str) -> Blame:
    return named("kernel", scene, "NVIDIA driver", "The NVIDIA driver does not answer", "NVML")


CAUSE = CauseSpec(
    id="gpu_unresponsive",
    title="GPU driver does not answer",
    mechanism="A call into the GPU driver hangs, most often because a GPU was lost or its system processor hangs; "
              "every program that starts or ends on a GPU may hang as well.",
    source="NVML; hangs of nvidia-smi as reported for lost GPUs",
    alerts=("GpuUnresponsive",),
    tables=(Table(
        needs=((Happened(("gpu_unresponsive",)),),),
        supports=(Happened(("gpu_xid", "gpu_lost")), Check("task_stuck_seconds_max", ">=", 3.0, "peak")),
    ),),
    headlines=("The GPU driver does not answer",),
    summary=("A call into the GPU driver was given up after seconds without an answer {gpu_unresponsive:ref}.",
             "The driver had reported an error {gpu_xid:ref}.",
             "A task hangs in the kernel for {task_stuck_seconds_max} {task_stuck_seconds_max:ref}.",
             "Nothing is known of the GPUs until it answers."),
    tell_apart="whether nvidia-smi hangs too, and what the kernel log says of the GPU before that",
    hard=True,
    specific=2,
    blame=_driver,
    culprit_needed=False,
)
