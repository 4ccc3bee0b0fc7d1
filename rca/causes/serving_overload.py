"""An inference server gets more requests than it can serve."""

from rca.serving import FULL, at_limit, gpus_idle, serving_process, slower
from rca.serving_phases import ROOM, limited, mostly
from rca.spec import CauseSpec, Check, Shown, Table

_MORE = (
    Check("inference_prompt_tokens_per_second", ">=", 1.0, factor=1.2),
    Check("inference_running_requests", ">=", 1.0, factor=1.2),
    Check("inference_ttft_p99_seconds", ">=", 0.5, factor=2.0),
    Check("gpu_utilization_ratio", ">=", 0.85),
    mostly("queue"),
)
_NOT = (Shown(gpus_idle),
        Check("inference_server_up", "<=", 0.5, "last", why="the server no longer answers"))

CAUSE = CauseSpec(
    id="serving_overload",
    title="more requests than the server can serve",
    mechanism="Requests arrive faster than an inference server completes them at full batch, so its queue grows and "
              "each waits for its first token.",
    source="vLLM docs/design/metrics.md; USE method (Gregg): saturation without errors",
    alerts=("ServingQueueLong", "ServingLatencyHigh"),
    tables=(Table(
        label="server",
        needs=(
            (Check("inference_waiting_requests", ">=", 4.0, factor=2.0),),
            (Shown(limited),),
            (Check("inference_kv_cache_used_ratio", "<=", ROOM),),
        ),
        supports=_MORE,
        refutes=(Shown(slower), *_NOT),
        headlines=("{who} serves as many requests at once as it may, and has room for more",
                   "{entity} serves as many requests at once as it may, and has room for more"),
    ), Table(
        label="server",
        needs=(
            (Check("inference_waiting_requests", ">=", 4.0, factor=2.0),),
            (Check("inference_running_requests", ">=", 1.0),),
        ),
        supports=(*_MORE, Shown(at_limit)),
        refutes=(
            Check("inference_kv_cache_used_ratio", ">=", FULL, why="the KV cache is full: memory is the limit"),
            Shown(slower), Shown(limited), *_NOT,
        ),
    )),
    headlines=("{who} gets more requests than it can serve", "{entity} gets more requests than it can serve"),
    summary=(
        "{inference_waiting_requests} requests wait {inference_waiting_requests:seen}, "
        "{inference_running_requests} are being served.",
        "{serving_limit:said} {serving_limit:ref}.",
        "{phases:said} {phases:ref}.",
        "{claim} {blame:ref}.",
        "The slowest 1 % of requests wait {inference_ttft_p99_seconds} or more for their first token "
        "{inference_ttft_p99_seconds:ref}.",
        "Its prompts, in tokens: {inference_prompt_tokens_per_second} "
        "{inference_prompt_tokens_per_second:seen}.",
    ),
    tell_apart="whether a step takes as long as its load explains (etio capacity --server), and whether GPUs are busy",
    specific=2,
    blame=serving_process,
)
