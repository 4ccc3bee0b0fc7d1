"""A GPU is slowed down by its power supply."""

from rca.gpus import gpu_with_users
from rca.spec import CauseSpec, Check, Table

CAUSE = CauseSpec(
    id="gpu_power_brake",
    title="GPU slowed down by its power supply",
    mechanism="The power supply or the board tells the GPU to draw less at once; hardware then cuts its clocks by half "
              "or more.",
    source="NVML clocks event reasons (HwPowerBrakeSlowdown, HwSlowdown)",
    alerts=("GpuPowerBrake",),
    tables=(Table(
        label="gpu",
        needs=((Check("gpu_throttle_brake_ratio", ">=", 0.05, "mean"),
                Check("gpu_clock_event_ratio", ">=", 0.2, "mean", labels=(("reason", "hardware"),))),),
        supports=(Check("gpu_sm_clock_hertz", "<=", 1e11, factor=0.8), Check("gpu_power_watts", "<=", 1e4, factor=0.9)),
        refutes=(Check("gpu_throttle_thermal_ratio", ">=", 0.1, "mean", why="heat is what slows it down"),),
    ),),
    headlines=("GPU {entity} is slowed down by its power supply",),
    summary=("The external power brake held the clocks of GPU {entity} down {gpu_throttle_brake_ratio} of the time "
             "{gpu_throttle_brake_ratio:ref}.",
             "Hardware slowed GPU {entity} down {gpu_clock_event_ratio} of the time, and not for heat "
             "{gpu_clock_event_ratio:ref}.",
             "Its SM clock runs at {gpu_sm_clock_hertz} {gpu_sm_clock_hertz:seen}.",
             "It draws {gpu_power_watts} {gpu_power_watts:seen}."),
    tell_apart="nvidia-smi -q -d PERFORMANCE: HW Power Brake against HW Thermal Slowdown",
    explains=("gpu_straggler",),
    hard=True,
    specific=3,
    blame=gpu_with_users,
    culprit_needed=False,
)
