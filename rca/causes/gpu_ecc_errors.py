"""Memory of a GPU has errors that were not corrected."""

from rca.culprits import gpu_itself
from rca.spec import CauseSpec, Check, Happened, Table

CAUSE = CauseSpec(
    id="gpu_ecc_errors",
    title="uncorrectable memory errors of a GPU",
    mechanism="Memory of a GPU returned data that its error correction could not mend; what ran on it may be wrong.",
    source="NVML, nvmlDeviceGetTotalEccErrors; NVIDIA GPU memory error management (row remapping)",
    alerts=("GpuEccErrors",),
    tables=(Table(
        label="gpu",
        needs=((Check("gpu_ecc_uncorrected_per_second", ">=", 1e-6, "peak"),),),
        supports=(Happened(("gpu_xid",)), Check("gpu_ecc_corrected_per_second", ">=", 1e-6, "peak")),
    ),),
    headlines=("Memory of GPU {entity} has errors that were not corrected",),
    summary=(
        "GPU {entity} counted memory errors that were not corrected {gpu_ecc_uncorrected_per_second:ref}.",
        "Its driver reported an error as well {gpu_xid:ref}.",
        "It also corrects errors: {gpu_ecc_corrected_per_second} at the most {gpu_ecc_corrected_per_second:ref}.",
        "Results of what ran on it since then may be wrong.",
    ),
    tell_apart="nvidia-smi -q -d ECC,ROW_REMAPPER: errors since the driver was loaded, and rows waiting for remapping",
    explains=("gpu_xid",),
    hard=True,
    specific=3,
    blame=gpu_itself,
    culprit_needed=False,
)
