"""The series of inference servers, the same for every kind of server."""

from collector.table import Column

BOTH = ("server", "model")
UP = Column("inference_server_up", "1", "gauge", "server answers (1) or not (0)", ("server",))
GAUGES = {
    "running_requests": Column("inference_running_requests", "1", "gauge", "requests being computed", BOTH),
    "waiting_requests": Column("inference_waiting_requests", "1", "gauge", "requests in the queue", BOTH),
    "kv_cache_used_ratio": Column("inference_kv_cache_used_ratio", "ratio", "gauge", "KV cache in use", BOTH),
    "kv_tokens": Column("inference_kv_tokens", "1", "gauge", "tokens in the KV cache", BOTH),
    "prefix_cache_hit_ratio": Column("inference_prefix_cache_hit_ratio", "ratio", "gauge",
                                     "prompt tokens found in the prefix cache", BOTH),
    "ttft_p50_seconds": Column("inference_ttft_p50_seconds", "seconds", "gauge", "median time to first token", BOTH),
    "ttft_p99_seconds": Column("inference_ttft_p99_seconds", "seconds", "gauge", "slowest 1 % to first token", BOTH),
    "inter_token_p50_seconds": Column("inference_inter_token_p50_seconds", "seconds", "gauge",
                                      "median time between tokens", BOTH),
    "inter_token_p99_seconds": Column("inference_inter_token_p99_seconds", "seconds", "gauge",
                                      "slowest 1 % between tokens", BOTH),
    "e2e_latency_p50_seconds": Column("inference_e2e_latency_p50_seconds", "seconds", "gauge",
                                      "median time of a whole request", BOTH),
    "e2e_latency_p99_seconds": Column("inference_e2e_latency_p99_seconds", "seconds", "gauge",
                                      "slowest 1 % of whole requests", BOTH),
    "request_queue_seconds": Column("inference_request_queue_seconds", "seconds", "gauge",
                                    "mean time a request waited for its turn", BOTH),
    "request_prefill_seconds": Column("inference_request_prefill_seconds", "seconds", "gauge",
                                      "mean time in which the prompt of a request was computed", BOTH),
    "request_decode_seconds": Column("inference_request_decode_seconds", "seconds", "gauge",
                                     "mean time in which the answer of a request was generated", BOTH),
    "request_prompt_tokens": Column("inference_request_prompt_tokens", "1", "gauge", "mean length of a prompt", BOTH),
    "request_output_tokens": Column("inference_request_output_tokens", "1", "gauge", "mean length of an answer", BOTH),
    "step_seconds": Column("inference_step_seconds", "seconds", "gauge", "time of one step of the engine", BOTH),
    "batch_size": Column("inference_batch_size", "1", "gauge", "sequences in one step", BOTH),
    "gpu_resident_ratio": Column("inference_gpu_resident_ratio", "ratio", "gauge",
                                 "part of the model in GPU memory (Ollama)", BOTH),
}
COUNTERS = {
    name: Column(f"inference_{series}_per_second", "1/s", "counter", what, BOTH)
    for name, series, what in (
        ("preemptions", "preemptions", "sequences thrown out of the KV cache"),
        ("prompt_tokens", "prompt_tokens", "prompt tokens computed"),
        ("generated_tokens", "generated_tokens", "tokens generated"),
        ("failed", "requests_failed", "requests that failed"))
}
COLUMNS = {**GAUGES, **COUNTERS}
