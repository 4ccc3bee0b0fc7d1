"""A GPU is held down by a power limit below that of its maker."""

from rca.gpus import gpu_with_users
from rca.spec import CauseSpec, Check, Table

CAUSE = CauseSpec(
    id="gpu_power_cap",
    title="GPU held down by its power limit",
    mechanism="Somebody set a power limit below that of the maker, so the GPU lowers its clocks to stay within it.",
    source="NVML clocks event reasons (SwPowerCap), power management limits",
    alerts=("GpuPowerCapped",),
    tables=(Table(
        label="gpu",
        needs=((Check("gpu_throttle_power_ratio", ">=", 0.3),), (Check("gpu_power_limit_ratio", "<=", 0.95),)),
        supports=(Check("gpu_power_limit_watts", ">=", 1.0), Check("gpu_power_limit_default_watts", ">=", 1.0),
                  Check("gpu_sm_clock_ratio", "<=", 0.9), Check("gpu_power_watts", ">=", 1.0)),
    ),),
    headlines=("GPU {entity} is held down by a power limit of {gpu_power_limit_watts}",
               "GPU {entity} is held down by a power limit that somebody set"),
    summary=("The power limit held the clocks of GPU {entity} down {gpu_throttle_power_ratio} of the time "
             "{gpu_throttle_power_ratio:ref}.",
             "The limit is {gpu_power_limit_watts} {gpu_power_limit_watts:seen}, {gpu_power_limit_ratio} of that of "
             "the maker {gpu_power_limit_ratio:ref}.",
             "Its SM clock is {gpu_sm_clock_ratio} of the highest {gpu_sm_clock_ratio:seen}.",
             "At the maker's limit a power cap under full load would be usual."),
    tell_apart="nvidia-smi -q -d POWER: current against default power limit",
    explains=("gpu_straggler",),
    hard=True,
    specific=2,
    blame=gpu_with_users,
    culprit_needed=False,
)
