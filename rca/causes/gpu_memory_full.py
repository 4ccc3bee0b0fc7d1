"""The memory of a GPU is full."""

from rca.gpus import blame_holder
from rca.spec import CauseSpec, Check, Table

CAUSE = CauseSpec(
    id="gpu_memory_full",
    title="GPU memory used up",
    mechanism="The memory of a GPU is used up, so the next allocation fails: CUDA out of memory.",
    source="NVML, nvmlDeviceGetMemoryInfo",
    alerts=("GpuMemoryFull",),
    tables=(Table(
        label="gpu",
        needs=((Check("gpu_memory_used_ratio", ">=", 0.97, "peak"),),),
        supports=(Check("gpu_memory_used_bytes", ">=", 1.0), Check("gpu_processes", ">=", 2.0, "last")),
    ),),
    headlines=("{who} fills the memory of GPU {entity}", "The memory of GPU {entity} is full"),
    summary=("The memory of GPU {entity} is {gpu_memory_used_ratio} full {gpu_memory_used_ratio:seen}.",
             "{claim} {blame:ref}.",
             "{gpu_processes} processes share it {gpu_processes:ref}.",
             "The next allocation on this GPU fails."),
    tell_apart="whether a program reports CUDA out of memory; a framework may keep memory that it does not use",
    hard=True,
    specific=2,
    blame=blame_holder,
    culprit_needed=False,
)
