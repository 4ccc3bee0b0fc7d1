"""A busy GPU runs at clocks that somebody set low."""

from rca.gpus import gpu_with_users
from rca.spec import CauseSpec, Check, Table

CAUSE = CauseSpec(
    id="gpu_clocks_low",
    title="GPU clocks set low",
    mechanism="Somebody limited the clocks of the GPU (application clocks or locked clocks), and nobody took it back.",
    source="NVML clocks event reasons (ApplicationsClocksSetting)",
    alerts=("GpuClocksLow",),
    tables=(Table(
        label="gpu",
        needs=((Check("gpu_clock_event_ratio", ">=", 0.5, "mean", labels=(("reason", "setting"),)),),
               (Check("gpu_sm_clock_ratio", "<=", 0.8),)),
        supports=(Check("gpu_utilization_ratio", ">=", 0.5), Check("gpu_sm_clock_hertz", "<=", 1e11),
                  Check("gpu_temperature_celsius", "<=", 75.0)),
        refutes=(Check("gpu_utilization_ratio", "<=", 0.2, why="the GPU has little to do"),
                 Check("gpu_throttle_thermal_ratio", ">=", 0.1, "mean", why="heat is what slows it down")),
    ),),
    headlines=("GPU {entity} runs at {gpu_sm_clock_hertz}: its clocks are set low",
               "The clocks of GPU {entity} are set low"),
    summary=("The clocks of GPU {entity} are limited by a setting, says its driver {gpu_clock_event_ratio:ref}.",
             "Its SM clock is {gpu_sm_clock_ratio} of the highest {gpu_sm_clock_ratio:seen}, "
             "while it is in use {gpu_utilization_ratio} of the time {gpu_utilization_ratio:ref}.",
             "With {gpu_temperature_celsius} heat is no reason {gpu_temperature_celsius:ref}."),
    tell_apart="nvidia-smi -q -d CLOCK: applications clocks against max clocks",
    explains=("gpu_straggler",),
    hard=True,
    specific=2,
    blame=gpu_with_users,
    culprit_needed=False,
)
