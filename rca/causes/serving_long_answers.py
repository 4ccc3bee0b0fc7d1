"""Requests with longer answers than before."""

from rca.serving import FULL, serving_process, slower
from rca.serving_phases import mostly, tokens_slower
from rca.spec import CauseSpec, Check, Shown, Table

CAUSE = CauseSpec(
    id="serving_long_answers",
    title="answers became longer",
    mechanism="Clients ask for longer answers than before: each token comes as fast as it did, and there are more.",
    source="vLLM docs/design/metrics.md (decode time and generated tokens of requests)",
    alerts=("ServingLatencyHigh", "ServingQueueLong"),
    tables=(Table(
        label="server",
        needs=(
            (Check("inference_request_output_tokens", ">=", 20.0, factor=1.5, compared=True),),
            (Check("inference_request_decode_seconds", ">=", 0.5, factor=1.3, compared=True), mostly("decode")),
        ),
        supports=(mostly("decode"), Check("inference_running_requests", ">=", 1.0, factor=1.2)),
        refutes=(
            Shown(tokens_slower, ("inference_request_decode_seconds", "inference_request_output_tokens")),
            Check("inference_kv_cache_used_ratio", ">=", FULL, why="the KV cache is full: memory is the limit"),
            Shown(slower),
            Check("inference_server_up", "<=", 0.5, "last", why="the server no longer answers"),
        ),
    ),),
    headlines=("{who} is asked for longer answers than before", "{entity} is asked for longer answers than before"),
    summary=(
        "An answer has {inference_request_output_tokens} tokens on the mean {inference_request_output_tokens:seen}.",
        "{phases:said} {phases:ref}.",
        "{claim} {blame:ref}.",
    ),
    tell_apart="length of answers and time between tokens, on the server's metrics page (request_generation_tokens)",
    explains=("serving_overload",),
    specific=3,
    blame=serving_process,
    culprit_needed=False,
)
