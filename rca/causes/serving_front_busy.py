"""The front of an inference server, which makes tokens of text, has no CPU time left."""

from rca.serving import serving_process
from rca.serving_phases import front_busy, gpus_busy
from rca.spec import CauseSpec, Check, Shown, Table

CAUSE = CauseSpec(
    id="serving_front_busy",
    title="the front of the server uses its core up",
    mechanism="One process speaks HTTP and makes tokens of text for all requests of an inference server; it computes "
              "all the time, so requests reach the engine late while that has time left.",
    source="vLLM docs/configuration/optimization.md (input processing, API server scale-out)",
    alerts=("ServingLatencyHigh", "ServingGpuIdle", "ServingThroughputLow"),
    tables=(Table(
        label="server",
        needs=(
            (Shown(front_busy),),
            (Check("inference_ttft_p50_seconds", ">=", 0.3, factor=2.0),),
            (Check("inference_waiting_requests", "<=", 4.0),),
        ),
        supports=(Check("inference_ttft_p99_seconds", ">=", 0.5, factor=2.0),
                  Check("gpu_utilization_ratio", "<=", 0.75)),
        refutes=(
            Shown(gpus_busy),
            Check("inference_request_prefill_seconds", ">=", 0.3, factor=2.0, why="the engine is slower"),
            Check("inference_request_queue_seconds", ">=", 0.5, factor=2.0, why="requests wait for the engine"),
            Check("inference_server_up", "<=", 0.5, "last", why="the server no longer answers"),
        ),
    ),),
    headlines=("The front of {who} uses its core up and feeds the engine too slowly",
               "The front of {entity} uses its core up and feeds the engine too slowly"),
    summary=(
        "{front:said} {front:ref}.",
        "The median request waits {inference_ttft_p50_seconds} for its first token {inference_ttft_p50_seconds:seen}, "
        "while {inference_waiting_requests} wait for the engine {inference_waiting_requests:ref}.",
        "{claim} {blame:ref}.",
    ),
    tell_apart="py-spy top of the server's first process, and whether its requests wait before the engine",
    specific=2,
    blame=serving_process,
    culprit_needed=False,
)
