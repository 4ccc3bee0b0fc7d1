"""A model does not fit into GPU memory, and a part of it runs on the CPU."""

from rca.serving import serving_process
from rca.serving_phases import memory_held
from rca.spec import CauseSpec, Check, Shown, Table

CAUSE = CauseSpec(
    id="model_on_cpu",
    title="model partly on the CPU",
    mechanism="A model with its context did not fit into the GPU memory that was free when it was loaded, so an "
              "inference server put a part of it on the CPU; each token waits for that part.",
    source="Ollama docs/api.md (/api/ps: size, size_vram), docs/faq.md",
    alerts=("ModelPartlyOnCpu",),
    tables=(Table(
        label="server",
        needs=((Check("inference_gpu_resident_ratio", "<=", 0.95, "last"),),),
        supports=(Shown(memory_held, ("gpu_memory_used_ratio",)), Check("cpu_busy_ratio", ">=", 0.5)),
        refutes=(Check("inference_gpu_resident_ratio", "<=", 0.02, "last", why="all of it is on the CPU"),),
    ),),
    headlines=("A model of {who} fits the GPU only in part and runs on the CPU for the rest",
               "A model of {entity} fits the GPU only in part and runs on the CPU for the rest"),
    summary=(
        "{inference_gpu_resident_ratio} of the model is in GPU memory {inference_gpu_resident_ratio:ref}.",
        "{held:said} {held:ref}.",
        "The CPUs are in use {cpu_busy_ratio} of the time {cpu_busy_ratio:ref}.",
        "{claim} {blame:ref}.",
    ),
    tell_apart="ollama ps: the processor column; and who else holds GPU memory",
    hard=True,
    specific=2,
    blame=serving_process,
    culprit_needed=False,
)
