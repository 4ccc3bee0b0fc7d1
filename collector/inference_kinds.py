"""The inference servers etio knows: how each is told by its command line, and what its metrics are called.

Names were read in the servers' own sources and documentation: vLLM vllm/v1/metrics/loggers.py and, for the names of its
first engine, vllm/engine/metrics.py; SGLang python/sglang/srt/metrics/collector.py; Triton docs/user_guide/metrics.md
and the TensorRT-LLM backend's custom_metrics_reporter.cc; llama.cpp tools/server/README.md; text-generation-inference
docs/source/reference/metrics.md; Ollama docs/api.md (no Prometheus page; /api/ps).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath


@dataclass(frozen=True, slots=True)
class Pick:
    """Samples of one name: those that have these labels."""

    name: str
    labels: tuple[tuple[str, str], ...] = ()


Picks = tuple[Pick, ...]


def picks(*names: str) -> Picks:
    """Names in order of preference: the first that a page has counts."""
    return tuple(Pick(name) for name in names)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of server.

    values: field to names. Fields are those of collector.inference_values: running, waiting, kv_ratio, kv_tokens,
        kv_capacity, preemptions, prompt_tokens, generated_tokens, failed, steps, prefix_queries, prefix_hits,
        hit_ratio.
    histograms: "ttft", "inter_token", "e2e", "step", and of each request that ended "queue", "prefill", "decode" (time
        in each phase), "prompt_length", "output_length" (tokens) to names without suffix. Left out on purpose: what
        counts clients that hung up as failures, Triton's first response (of a server that does not stream it is the
        whole answer), and TGI's mean time per token (it includes the prompt).
    port: where it listens unless told otherwise. page: path of its metrics.
    mark: how the names of its metrics begin.
    """

    name: str
    port: int
    page: str
    mark: tuple[str, ...]
    values: Mapping[str, Picks] = field(default_factory=dict)
    histograms: Mapping[str, Picks] = field(default_factory=dict)
    model_labels: tuple[str, ...] = ("model_name", "model")

    def names(self) -> frozenset[str]:
        """Every sample name of a page that matters."""
        plain = {p.name for group in self.values.values() for p in group}
        spread = {p.name + end for group in self.histograms.values() for p in group
                  for end in ("_bucket", "_sum", "_count")}
        return frozenset(plain | spread | {"vllm:cache_config_info"})


VLLM = Kind(
    "vllm", 8000, "/metrics", ("vllm:",),
    {
        "running": picks("vllm:num_requests_running"),
        "waiting": picks("vllm:num_requests_waiting"),
        "kv_ratio": picks("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
        "kv_mean": picks("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
        "preemptions": picks("vllm:num_preemptions_total", "vllm:num_preemptions"),
        "prompt_tokens": picks("vllm:prompt_tokens_total", "vllm:prompt_tokens"),
        "generated_tokens": picks("vllm:generation_tokens_total", "vllm:generation_tokens"),
        "failed": (Pick("vllm:request_success_total", (("finished_reason", "error"),)),),
        "steps": picks("vllm:iteration_tokens_total_count"),
        "engines": picks("vllm:iteration_tokens_total_count"),
        "prefix_queries": picks("vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total"),
        "prefix_hits": picks("vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total"),
        "hit_ratio": picks("vllm:gpu_prefix_cache_hit_rate"),
    },
    {
        "ttft": picks("vllm:time_to_first_token_seconds"),
        "inter_token": picks("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"),
        "e2e": picks("vllm:e2e_request_latency_seconds"),
        "queue": picks("vllm:request_queue_time_seconds"),
        "prefill": picks("vllm:request_prefill_time_seconds"),
        "decode": picks("vllm:request_decode_time_seconds"),
        "prompt_length": picks("vllm:request_prompt_tokens"),
        "output_length": picks("vllm:request_generation_tokens"),
    },
)

SGLANG = Kind(
    "sglang", 30000, "/metrics", ("sglang:",),
    {
        "running": picks("sglang:num_running_reqs"),
        "waiting": picks("sglang:num_queue_reqs"),
        "kv_ratio": picks("sglang:token_usage"),
        "kv_tokens": picks("sglang:num_used_tokens"),
        "kv_capacity": picks("sglang:max_total_num_tokens"),
        "preemptions": picks("sglang:num_retracted_requests_total"),
        "prompt_tokens": picks("sglang:prompt_tokens_total"),
        "generated_tokens": picks("sglang:generation_tokens_total"),
        "hit_ratio": picks("sglang:cache_hit_rate"),
    },
    {
        "ttft": picks("sglang:time_to_first_token_seconds"),
        "inter_token": picks("sglang:inter_token_latency_seconds", "sglang:time_per_output_token_seconds"),
        "e2e": picks("sglang:e2e_request_latency_seconds"),
    },
)


def _trt(family: str, label: str, value: str) -> Pick:
    return Pick(f"nv_trt_llm_{family}", ((label, value),))


TRITON = Kind(
    "triton", 8002, "/metrics", ("nv_inference_", "nv_trt_llm_"),
    {
        "running": (_trt("request_metrics", "request_type", "scheduled"),),
        "waiting": (_trt("request_metrics", "request_type", "waiting"), Pick("nv_inference_pending_request_count")),
        "kv_ratio": (_trt("kv_cache_block_metrics", "kv_cache_block_type", "fraction"),),
        "kv_blocks": (_trt("kv_cache_block_metrics", "kv_cache_block_type", "used"),),
        "kv_blocks_max": (_trt("kv_cache_block_metrics", "kv_cache_block_type", "max"),),
        "kv_block_tokens": (_trt("kv_cache_block_metrics", "kv_cache_block_type", "tokens_per"),),
        "failed": picks("nv_inference_request_failure"),
    },
    model_labels=("model",),
)

LLAMA_CPP = Kind(
    "llama.cpp", 8080, "/metrics", ("llamacpp:",),
    {
        "running": picks("llamacpp:requests_processing"),
        "waiting": picks("llamacpp:requests_deferred"),
        "kv_ratio": picks("llamacpp:kv_cache_usage_ratio"),
        "kv_tokens": picks("llamacpp:kv_cache_tokens"),
        "prompt_tokens": picks("llamacpp:prompt_tokens_total"),
        "generated_tokens": picks("llamacpp:tokens_predicted_total"),
        "steps": picks("llamacpp:n_decode_total"),
    },
)

TGI = Kind(
    "tgi", 3000, "/metrics", ("tgi_",),
    {
        "running": picks("tgi_batch_current_size"),
        "waiting": picks("tgi_queue_size"),
        "prompt_tokens": picks("tgi_request_input_length_sum"),
        "generated_tokens": picks("tgi_request_generated_tokens_sum"),
        "failed": picks("tgi_request_failure"),
    },
    {
        "step": (Pick("tgi_batch_inference_duration", (("method", "decode"),)),),
        "e2e": picks("tgi_request_duration"),
        "queue": picks("tgi_request_queue_duration"),
        "prompt_length": picks("tgi_request_input_length"),
        "output_length": picks("tgi_request_generated_tokens"),
    },
)

OLLAMA = Kind("ollama", 11434, "/api/ps", ())

KINDS: Mapping[str, Kind] = {k.name: k for k in (VLLM, SGLANG, TRITON, LLAMA_CPP, TGI, OLLAMA)}
BY_PAGE = (VLLM, SGLANG, TRITON, LLAMA_CPP, TGI)
"""Kinds that a page of metrics tells apart."""


def kind_of_page(page: bytes) -> Kind | None:
    """Whose page this is; None where no name on it is known."""
    for kind in BY_PAGE:
        for mark in kind.mark:
            if page.startswith(mark.encode()) or b"\n" + mark.encode() in page:
                return kind
    return None


MAYBE = (b"vllm", b"sglang", b"tritonserver", b"ollama", b"llama", b"text-generation")
"""A command line without any of these is not looked at further."""
_MODULES = {"vllm.entrypoints.openai.api_server": "vllm", "vllm.entrypoints.api_server": "vllm",
            "sglang.launch_server": "sglang"}
_PROGRAMS = {"tritonserver": "triton", "llama-server": "llama.cpp", "text-generation-launcher": "tgi",
             "text-generation-router": "tgi"}
_SUBCOMMANDS = {"vllm": "vllm", "sglang": "sglang", "ollama": "ollama"}


def split(raw: bytes) -> list[str]:
    """Arguments of /proc/PID/cmdline."""
    return [a.decode("utf-8", "replace") for a in raw.rstrip(b"\0").split(b"\0")]


def kind_of_command(argv: Sequence[str]) -> str:
    """Kind of server that a command line starts; "" where it is none.

    >>> kind_of_command(["/usr/bin/python3", "/opt/venv/bin/vllm", "serve", "m"]), kind_of_command(["grep", "vllm"])
    ('vllm', '')
    """
    words = list(argv)
    while words and _interpreter(words[0]):
        words = words[1:]
        while words and words[0].startswith("-") and words[0] != "-m":
            words = words[1:]
        if words[:1] == ["-m"]:
            return _MODULES.get(words[1], "") if len(words) > 1 else ""
    if not words:
        return ""
    program = PurePosixPath(words[0]).name
    if program in _SUBCOMMANDS:
        return _SUBCOMMANDS[program] if "serve" in words[1:2] else ""
    return _PROGRAMS.get(program, "")


def _interpreter(word: str) -> bool:
    return PurePosixPath(word).name.startswith("python")
