"""NVLinks of a GPU have errors, or went down."""

from rca.gpu_xids import xid
from rca.gpus import gpu_with_users
from rca.spec import CauseSpec, Check, Table


def _errors(kind: str, bound: float) -> Check:
    return Check("gpu_nvlink_errors_per_second", ">=", bound, "mean", 2.0, labels=(("type", kind),))


CAUSE = CauseSpec(
    id="gpu_nvlink_errors",
    title="errors of NVLink",
    mechanism="Links between GPUs lose or spoil data, so that it is sent again, or do not work at all; whatever the "
              "GPUs do together becomes slow or fails.",
    source="NVML NVLink counters; NVIDIA DCGM NVLink health; Xid catalog (74, 136, 137, 144 to 150)",
    alerts=("GpuNvlinkErrors", "GpuNvlinkDown", "GpuXid", "GpuProgramXid"),
    tables=(Table(
        label="gpu",
        needs=((Check("gpu_nvlink_links_down", ">=", 0.5, "peak"), _errors("replay", 0.1), _errors("recovery", 0.1),
                _errors("data_checksum", 100.0), _errors("flit_checksum", 100.0), xid("nvlink")),),
        supports=(Check("gpu_nvlink_transmit_bytes_per_second", "<=", 1e15, "mean", 0.7),),
    ),),
    headlines=("{gpu_nvlink_links_down} of the NVLinks of GPU {entity} went down",
               "NVLinks of GPU {entity} have errors"),
    summary=("{gpu_nvlink_links_down} of the NVLinks of GPU {entity} do not work now, and have before or do on its "
             "siblings {gpu_nvlink_links_down:ref}.",
             "Its links had {gpu_nvlink_errors_per_second} errors {gpu_nvlink_errors_per_second:ref}.",
             "The driver reported {gpu_xid:told} {gpu_xid:ref}.",
             "It sends {gpu_nvlink_transmit_bytes_per_second} over NVLink "
             "{gpu_nvlink_transmit_bytes_per_second:seen}."),
    tell_apart="nvidia-smi nvlink -e and -s: which link, and whether the other end counts errors too",
    explains=("gpu_xid", "gpu_application_error", "gpu_straggler"),
    hard=True,
    specific=3,
    blame=gpu_with_users,
    culprit_needed=False,
)
