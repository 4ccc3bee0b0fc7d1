"""Requests with longer prompts than before."""

from rca.serving import FULL, serving_process, slower
from rca.serving_phases import mostly
from rca.spec import CauseSpec, Check, Shown, Table

CAUSE = CauseSpec(
    id="serving_long_prompts",
    title="prompts became longer",
    mechanism="Clients send longer prompts than before; an inference server computes them first, so the first token "
              "comes late, and those who already get their answer wait for these steps as well.",
    source="vLLM docs/design/metrics.md (prefill and decode time of requests), docs/configuration/optimization.md",
    alerts=("ServingLatencyHigh", "ServingQueueLong", "ServingThroughputLow"),
    tables=(Table(
        label="server",
        needs=(
            (Check("inference_request_prompt_tokens", ">=", 200.0, factor=1.5, compared=True),),
            (Check("inference_request_prefill_seconds", ">=", 0.2, factor=1.5, compared=True),),
        ),
        supports=(
            mostly("prefill"),
            Check("inference_ttft_p50_seconds", ">=", 0.2, factor=1.5),
            Check("inference_prompt_tokens_per_second", ">=", 1.0, factor=1.3),
            Check("inference_request_decode_seconds", ">=", 0.2, factor=1.2),
        ),
        refutes=(
            Check("inference_kv_cache_used_ratio", ">=", FULL, why="the KV cache is full: memory is the limit"),
            Shown(slower),
            Check("inference_server_up", "<=", 0.5, "last", why="the server no longer answers"),
        ),
    ),),
    headlines=("{who} gets longer prompts than before", "{entity} gets longer prompts than before"),
    summary=(
        "A prompt has {inference_request_prompt_tokens} tokens on the mean {inference_request_prompt_tokens:seen}.",
        "It takes {inference_request_prefill_seconds} to compute one {inference_request_prefill_seconds:seen}.",
        "{phases:said} {phases:ref}.",
        "The median request waits {inference_ttft_p50_seconds} for its first token {inference_ttft_p50_seconds:seen}.",
        "{claim} {blame:ref}.",
    ),
    tell_apart="length of prompts and time for them, on the server's metrics page (request_prompt_tokens, "
               "request_prefill_time_seconds)",
    explains=("serving_overload",),
    specific=3,
    blame=serving_process,
    culprit_needed=False,
)
