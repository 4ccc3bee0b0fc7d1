"""Settings of an inference server leave its GPU idle while requests wait."""

from rca.serving import at_limit, eager, gpus_idle, serving_process
from rca.spec import CauseSpec, Check, Shown, Table

ALERTS = ("ServingGpuIdle", "ServingQueueLong", "ServingLatencyHigh", "ServingSlow", "ServingThroughputLow")

CAUSE = CauseSpec(
    id="serving_misconfigured",
    title="settings hold the server back",
    mechanism="An inference server launches each kernel by itself (no CUDA graphs), or may serve too few requests at "
              "once, so its GPU has time left while requests wait.",
    source="vLLM docs/configuration/conserving_memory.md (enforce_eager), vllm/config/scheduler.py (max_num_seqs)",
    alerts=ALERTS,
    tables=(
        Table(
            label="server",
            needs=((Shown(eager),), (Check("inference_running_requests", ">=", 1.0),), (Shown(gpus_idle),)),
            supports=(Check("inference_waiting_requests", ">=", 1.0), Check("inference_step_seconds", ">=", 0.001),
                      Check("inference_inter_token_p50_seconds", ">=", 0.001)),
            headlines=("{who} runs without CUDA graphs and leaves its GPU idle",),
        ),
        Table(
            label="server",
            needs=((Shown(at_limit),), (Check("inference_waiting_requests", ">=", 1.0),), (Shown(gpus_idle),)),
            supports=(Check("inference_ttft_p99_seconds", ">=", 0.5, factor=2.0),),
            refutes=(Check("inference_kv_cache_used_ratio", ">=", 0.9, why="its KV cache has no room for more"),),
            headlines=("{who} may serve too few requests at once and leaves its GPU idle",),
        ),
    ),
    headlines=("{who} is held back by its settings",),
    summary=(
        "{claim} {blame:ref}.",
        "The busiest GPU is in use {gpu_utilization_ratio} of the time {gpu_utilization_ratio:ref}.",
        "{inference_waiting_requests} requests wait {inference_waiting_requests:ref}.",
        "A step takes {inference_step_seconds} {inference_step_seconds:seen}.",
    ),
    tell_apart="the server's command line, and how busy its GPU is while requests wait",
    explains=("serving_overload",),
    specific=2,
    blame=serving_process,
)
