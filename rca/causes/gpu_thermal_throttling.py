"""A GPU is held down by heat."""

from rca.gpus import gpu_with_users
from rca.spec import CauseSpec, Check, Table

CAUSE = CauseSpec(
    id="gpu_thermal_throttling",
    title="GPU slowed down by heat",
    mechanism="A GPU is too hot, so the driver or the hardware lowers its clocks and every kernel takes longer.",
    source="NVML clocks event reasons (SwThermalSlowdown, HwThermalSlowdown)",
    alerts=("GpuThrottled",),
    tables=(Table(
        label="gpu",
        needs=((Check("gpu_throttle_thermal_ratio", ">=", 0.10, factor=2.0),),),
        supports=(
            Check("gpu_temperature_celsius", ">=", 80.0),
            Check("gpu_temperature_headroom_celsius", "<=", 5.0, "low"),
            Check("gpu_sm_clock_hertz", "<=", 1e11, factor=0.95),
            Check("gpu_fan_speed_ratio", "<=", 2.0, "last"),
        ),
        refutes=(Check("gpu_temperature_celsius", "<=", 55.0, why="the GPU is cool"),),
    ),),
    headlines=("GPU {entity} is slowed down by heat ({gpu_temperature_celsius})",
               "GPU {entity} is slowed down by heat"),
    summary=(
        "The clocks of GPU {entity} were held down by heat {gpu_throttle_thermal_ratio} of the time "
        "{gpu_throttle_thermal_ratio:ref}.",
        "It has {gpu_temperature_celsius} {gpu_temperature_celsius:seen}.",
        "To the temperature at which its hardware slows down it has {gpu_temperature_headroom_celsius} left "
        "{gpu_temperature_headroom_celsius:ref}.",
        "Its own fan is set to {gpu_fan_speed_ratio} {gpu_fan_speed_ratio:seen}.",
        "Its SM clock runs at {gpu_sm_clock_hertz} {gpu_sm_clock_hertz:seen}.",
    ),
    tell_apart="the clock event reasons of NVML: thermal against power against application clocks",
    explains=("slow_rank", "gpu_straggler",),
    hard=True,  # the driver itself names the reason
    specific=2,
    blame=gpu_with_users,
    culprit_needed=False,
)
