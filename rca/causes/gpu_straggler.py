"""One GPU is slower than its siblings."""

from rca.gpus import below_siblings, gpu_with_users
from rca.spec import CauseSpec, Check, Table

CAUSE = CauseSpec(
    id="gpu_straggler",
    title="one GPU slower than its siblings",
    mechanism="One GPU runs at lower clocks than the others that do the same work, and all of them wait for it.",
    source="NVML; reasons of slow GPUs after NVIDIA DCGM health checks",
    alerts=("PeerDeviation",),
    tables=(Table(
        label="gpu",
        needs=((Check("gpu_utilization_ratio", ">=", 0.5),), (below_siblings("gpu_sm_clock_hertz", 0.9),)),
        supports=(Check("gpu_throttle_thermal_ratio", ">=", 0.05, "mean"),
                  Check("gpu_throttle_power_ratio", ">=", 0.3, "mean", 1.5),
                  Check("gpu_sm_clock_hertz", "<=", 1e11, factor=0.95), Check("gpu_temperature_celsius", ">=", 80.0)),
    ),),
    headlines=("GPU {entity} is slower than its siblings",),
    summary=("GPU {entity} does not keep up with the other GPUs that are busy {siblings:ref}.",
             "Its SM clock runs at {gpu_sm_clock_hertz} {gpu_sm_clock_hertz:seen}.",
             "Heat held it down {gpu_throttle_thermal_ratio} of the time {gpu_throttle_thermal_ratio:ref}.",
             "The power limit held it down {gpu_throttle_power_ratio} of the time {gpu_throttle_power_ratio:ref}.",
             "What they do together goes at its pace."),
    tell_apart="nvidia-smi -q -d PERFORMANCE,CLOCK of this GPU beside one of the others, under the same load",
    specific=2,
    blame=gpu_with_users,
    culprit_needed=False,
)
