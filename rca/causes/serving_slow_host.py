"""The host starves an inference server: its threads wait for a CPU."""

from rca.serving import WORK, server_throttled, server_waits, slower_step, starver
from rca.spec import CauseSpec, Check, Shown, Table

STEAL = (("mode", "steal"),)

CAUSE = CauseSpec(
    id="serving_slow_host",
    title="the host starves the server",
    mechanism="The thread that launches the GPU's work must wait for a CPU in every step, so an inference server is "
              "slower than its load explains while its GPU waits for it.",
    source="kernel docs scheduler/sched-stats; vLLM docs/configuration/optimization.md",
    alerts=("ServingSlow", "ServingLatencyHigh", "ServingThroughputLow", "ServingGpuIdle", "ServingQueueLong"),
    tables=(Table(
        label="server",
        needs=(
            (Shown(slower_step, ("inference_step_seconds", *WORK)),),
            (Shown(server_waits), Shown(server_throttled),
             Check("sched_run_delay_p99_seconds", ">=", 0.005, factor=3.0),
             Check("pressure_cpu_some_ratio", ">=", 0.30, factor=2.0),
             Check("cpu_mode_ratio", ">=", 0.1, labels=STEAL)),
        ),
        supports=(
            Check("inference_step_seconds", ">=", 0.001, factor=1.15),
            Check("inference_inter_token_p99_seconds", ">=", 0.001, factor=1.3),
            Check("pressure_cpu_some_ratio", ">=", 0.10, factor=1.5),
            Check("cpu_run_delay_seconds_per_second", ">=", 0.20, factor=2.0),
            Check("gpu_utilization_ratio", "<=", 0.9, factor=0.9),
        ),
        refutes=(
            Check("inference_preemptions_per_second", ">=", 0.5, "mean",
                  why="it computes thrown-out sequences anew: its KV cache is full"),
            Check("inference_server_up", "<=", 0.5, "last", why="the server no longer answers"),
        ),
    ),),
    headlines=("{who} takes the CPU that {entity} needs", "{entity} waits for the CPU in every step"),
    summary=(
        "A step takes {inference_step_seconds} {inference_step_seconds:seen}.",
        "By the latency model of this server its load explains less {step_model:ref}.",
        "{claim} {blame:ref}.",
        "Some task waited for a CPU {pressure_cpu_some_ratio} of the time {pressure_cpu_some_ratio:ref}.",
    ),
    tell_apart="how long the server's threads wait for a CPU (/proc/PID/schedstat) while its steps are slow",
    specific=2,
    blame=starver,
)
