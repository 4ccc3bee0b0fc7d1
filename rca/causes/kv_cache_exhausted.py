"""The KV cache of an inference server is full."""

from rca.serving import FULL, serving_process, slower
from rca.spec import CauseSpec, Check, Shown, Table

CAUSE = CauseSpec(
    id="kv_cache_exhausted",
    title="KV cache full",
    mechanism="The tokens of all requests being served no longer fit the KV cache, so an inference server lets "
              "requests wait, or throws sequences out and computes them anew.",
    source="vLLM docs/configuration/optimization.md (preemption), vllm/v1/metrics/loggers.py",
    alerts=("KvCacheFull", "ServingQueueLong", "ServingLatencyHigh", "ServingThroughputLow", "ServingSlow",
            "ServingGpuIdle"),
    tables=(Table(
        label="server",
        needs=(
            (Check("inference_kv_cache_used_ratio", ">=", FULL),),
            (Check("inference_preemptions_per_second", ">=", 0.1, "mean"),
             Check("inference_waiting_requests", ">=", 1.0)),
        ),
        supports=(
            Check("inference_preemptions_per_second", ">=", 0.1, "mean"),
            Check("inference_waiting_requests", ">=", 1.0),
            Check("inference_ttft_p99_seconds", ">=", 0.5, factor=2.0),
            Check("inference_inter_token_p99_seconds", ">=", 0.02, factor=1.5),
            Check("inference_e2e_latency_p50_seconds", ">=", 0.5, factor=1.3),
            Check("inference_kv_tokens", ">=", 1.0, factor=1.2),
            Check("inference_request_prompt_tokens", ">=", 200.0, factor=1.5, compared=True),
            Check("inference_request_output_tokens", ">=", 20.0, factor=1.5, compared=True),
            Shown(slower),
        ),
        refutes=(Check("inference_server_up", "<=", 0.5, "last", why="the server no longer answers"),),
    ),),
    headlines=("The KV cache of {who} is full", "The KV cache of {entity} is full"),
    summary=(
        "{inference_kv_cache_used_ratio} of the KV cache is in use {inference_kv_cache_used_ratio:seen}.",
        "{inference_preemptions_per_second:times} a sequence is thrown out and computed anew later "
        "{inference_preemptions_per_second:ref}.",
        "{inference_waiting_requests} requests wait {inference_waiting_requests:ref}.",
        "A prompt has {inference_request_prompt_tokens} tokens on the mean {inference_request_prompt_tokens:seen}.",
        "An answer has {inference_request_output_tokens} tokens on the mean {inference_request_output_tokens:seen}.",
        "{claim} {blame:ref}.",
        "The slowest 1 % of requests wait {inference_ttft_p99_seconds} or more for their first token "
        "{inference_ttft_p99_seconds:ref}.",
    ),
    tell_apart="KV cache use, preemptions and waiting requests on the server's metrics page",
    hard=True,  # the server's own account of its memory
    specific=3,
    blame=serving_process,
    culprit_needed=False,
)
