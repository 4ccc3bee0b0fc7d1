"""A GPU waits for its input."""

from rca.gpus import USES, blame_feeder, seldom_used
from rca.spec import CauseSpec, Check, Shown, Table

CAUSE = CauseSpec(
    id="gpu_data_starvation",
    title="GPU waits for its data",
    mechanism="Programs hold the GPU but feed it too slowly, because reading or preparing the data is limited by the "
              "CPU or the disk.",
    source="NVML utilisation against PSI; PyTorch performance tuning guide (data loading)",
    alerts=("GpuStarved", "PeerDeviation"),
    tables=(Table(
        label="gpu",
        needs=((Check("gpu_memory_used_ratio", ">=", 0.1),),
               (Shown(seldom_used, USES),),
               (Check("pressure_io_some_ratio", ">=", 0.25), Check("pressure_cpu_some_ratio", ">=", 0.3),
                Check("cpu_busy_ratio", ">=", 0.95))),
        supports=(Check("disk_busy_ratio", ">=", 0.8), Check("disk_read_latency_seconds", ">=", 0.005, factor=2.0),
                  Check("cpu_run_delay_seconds_per_second", ">=", 0.5, factor=2.0),
                  Check("vm_major_faults_per_second", ">=", 100.0, factor=3.0)),
        refutes=(Check("gpu_utilization_ratio", "<=", 0.005, "peak", why="nobody works with the GPU"),
                 Check("gpu_throttle_thermal_ratio", ">=", 0.1, "mean", why="heat is what slows it down")),
    ),),
    headlines=("GPU {entity} waits for its data: {who} takes what feeds it", "GPU {entity} waits for its data"),
    summary=("GPU {entity} is in use only {gpu_utilization_ratio} of the time {gpu_utilization_ratio:seen}, while "
             "programs hold {gpu_memory_used_ratio} of its memory {gpu_memory_used_ratio:ref}.",
             "GPU {entity} works and pauses in a rhythm: it is in use {gpu_utilization_rhythm_ratio} of the time "
             "{gpu_utilization_rhythm_ratio:ref}, while programs hold {gpu_memory_used_ratio} of its memory "
             "{gpu_memory_used_ratio:ref}.",
             "Meanwhile tasks wait for I/O {pressure_io_some_ratio} of the time {pressure_io_some_ratio:seen}.",
             "Meanwhile tasks wait for a CPU {pressure_cpu_some_ratio} of the time {pressure_cpu_some_ratio:seen}.",
             "Meanwhile the CPUs are in use {cpu_busy_ratio} of the time {cpu_busy_ratio:seen}.",
             "{claim} {blame:ref}."),
    tell_apart="whether the GPU's use comes in bursts with pauses while the loader's processes run",
    specific=2,
    blame=blame_feeder,
    culprit_needed=False,
)
