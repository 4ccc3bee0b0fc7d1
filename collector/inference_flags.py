"""Settings of inference servers on their command lines and in their environment: a closed list, so that no key or
token of anybody is ever read, kept or shown.

Source: vLLM vllm/engine/arg_utils.py and docs/configuration; SGLang docs/backend/server_arguments.md; llama.cpp
tools/server/README.md; Ollama envconfig/config.go; Triton docs/user_guide; text-generation-inference launcher.md.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from etio.core.errors import NoData

ON, OFF = "on", "off"
VALUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:,+/%=@-]{0,79}|-?[0-9.]{1,12}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Flag:
    """One setting. key: name in facts and cards. names: as written on the command line; env: as written there.

    default: what holds where it is not given, "" where that depends on version, model or machine.
    switch: takes no value.
    """

    key: str
    names: tuple[str, ...] = ()
    env: str = ""
    default: str = ""
    switch: bool = False


def _flags(*flags: Flag) -> tuple[Flag, ...]:
    return flags


FLAGS: Mapping[str, tuple[Flag, ...]] = {
    "vllm": _flags(
        Flag("enforce_eager", ("--enforce-eager",), default=OFF, switch=True),
        Flag("gpu_memory_utilization", ("--gpu-memory-utilization",), default="0.9"),
        Flag("max_num_seqs", ("--max-num-seqs",)),
        Flag("max_num_batched_tokens", ("--max-num-batched-tokens",)),
        Flag("max_model_len", ("--max-model-len",)),
        Flag("kv_cache_dtype", ("--kv-cache-dtype",), default="auto"),
        Flag("dtype", ("--dtype",), default="auto"),
        Flag("tensor_parallel_size", ("--tensor-parallel-size", "-tp"), default="1"),
        Flag("pipeline_parallel_size", ("--pipeline-parallel-size", "-pp"), default="1"),
        Flag("data_parallel_size", ("--data-parallel-size", "-dp"), default="1"),
        Flag("enable_chunked_prefill", ("--enable-chunked-prefill",), switch=True),
        Flag("enable_prefix_caching", ("--enable-prefix-caching",), switch=True),
        Flag("async_scheduling", ("--async-scheduling",), switch=True),
        Flag("block_size", ("--block-size",)),
        Flag("swap_space", ("--swap-space",)),
        Flag("quantization", ("--quantization", "-q")),
        Flag("api_server_count", ("--api-server-count",), default="1"),
        Flag("model", ("--model", "--served-model-name")),
        Flag("config", ("--config",)),
    ),
    "sglang": _flags(
        Flag("disable_cuda_graph", ("--disable-cuda-graph",), default=OFF, switch=True),
        Flag("mem_fraction_static", ("--mem-fraction-static",)),
        Flag("max_running_requests", ("--max-running-requests",)),
        Flag("chunked_prefill_size", ("--chunked-prefill-size",)),
        Flag("context_length", ("--context-length",)),
        Flag("kv_cache_dtype", ("--kv-cache-dtype",), default="auto"),
        Flag("tensor_parallel_size", ("--tp", "--tp-size", "--tensor-parallel-size"), default="1"),
        Flag("schedule_conservativeness", ("--schedule-conservativeness",), default="1.0"),
        Flag("disable_radix_cache", ("--disable-radix-cache",), default=OFF, switch=True),
        Flag("model", ("--model-path", "--model", "--served-model-name")),
    ),
    "triton": _flags(
        Flag("model_control_mode", ("--model-control-mode",), default="none"),
        Flag("http_thread_count", ("--http-thread-count",)),
        Flag("pinned_memory_pool_byte_size", ("--pinned-memory-pool-byte-size",)),
    ),
    "llama.cpp": _flags(
        Flag("gpu_layers", ("-ngl", "--gpu-layers", "--n-gpu-layers"), "LLAMA_ARG_N_GPU_LAYERS"),
        Flag("parallel", ("-np", "--parallel"), "LLAMA_ARG_N_PARALLEL"),
        Flag("ctx_size", ("-c", "--ctx-size"), "LLAMA_ARG_CTX_SIZE"),
        Flag("threads", ("-t", "--threads"), "LLAMA_ARG_THREADS"),
        Flag("batch_size", ("-b", "--batch-size"), "LLAMA_ARG_BATCH", "2048"),
        Flag("ubatch_size", ("-ub", "--ubatch-size"), "LLAMA_ARG_UBATCH", "512"),
        Flag("flash_attn", ("-fa", "--flash-attn"), "LLAMA_ARG_FLASH_ATTN"),
        Flag("cache_type_k", ("-ctk", "--cache-type-k"), "LLAMA_ARG_CACHE_TYPE_K", "f16"),
        Flag("cache_type_v", ("-ctv", "--cache-type-v"), "LLAMA_ARG_CACHE_TYPE_V", "f16"),
        Flag("model", ("-a", "--alias", "-m", "--model"), "LLAMA_ARG_MODEL"),
    ),
    "tgi": _flags(
        Flag("max_concurrent_requests", ("--max-concurrent-requests",), "MAX_CONCURRENT_REQUESTS", "128"),
        Flag("max_batch_total_tokens", ("--max-batch-total-tokens",), "MAX_BATCH_TOTAL_TOKENS"),
        Flag("num_shard", ("--num-shard",), "NUM_SHARD"),
        Flag("quantize", ("--quantize",), "QUANTIZE"),
        Flag("cuda_memory_fraction", ("--cuda-memory-fraction",), "CUDA_MEMORY_FRACTION", "1.0"),
        Flag("model", ("--model-id",), "MODEL_ID"),
    ),
    "ollama": _flags(
        Flag("num_parallel", (), "OLLAMA_NUM_PARALLEL"),
        Flag("max_loaded_models", (), "OLLAMA_MAX_LOADED_MODELS"),
        Flag("flash_attention", (), "OLLAMA_FLASH_ATTENTION"),
        Flag("kv_cache_type", (), "OLLAMA_KV_CACHE_TYPE", "f16"),
        Flag("context_length", (), "OLLAMA_CONTEXT_LENGTH"),
        Flag("max_queue", (), "OLLAMA_MAX_QUEUE", "512"),
        Flag("keep_alive", (), "OLLAMA_KEEP_ALIVE", "5m"),
    ),
}
PORT = {"vllm": ("--port",), "sglang": ("--port",), "triton": ("--metrics-port",), "llama.cpp": ("--port",),
        "tgi": ("--port", "-p"), "ollama": ()}


def given(kind: str, argv: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """The settings of the list that were given, key to value; of a value of odd form only that it was given ("?").

    >>> given("vllm", ["vllm", "serve", "m", "--enforce-eager", "--max_num_seqs=64", "--api-key", "s3cret"], {})
    {'enforce_eager': 'on', 'max_num_seqs': '64', 'model': 'm'}
    """
    flags = {name: flag for flag in FLAGS.get(kind, ()) for name in flag.names}
    found: dict[str, str] = {}
    for flag in FLAGS.get(kind, ()):
        if flag.env and flag.env in environ:
            found[flag.key] = _clean(environ[flag.env])
    for at, word in enumerate(argv):
        name, equals, value = _name(word)
        negative = name.startswith("--no-") and f"--{name[5:]}" in flags
        flag_ = flags.get(f"--{name[5:]}" if negative else name)
        if flag_ is None:
            continue
        following = value if equals else (argv[at + 1] if at + 1 < len(argv) else "")
        found[flag_.key] = OFF if negative else ON if flag_.switch and not equals else _clean(following)
    if kind == "vllm" and "serve" in argv[:4] and "model" not in found:
        after = argv[list(argv).index("serve") + 1:][:1]
        found |= {"model": _clean(after[0])} if after and not after[0].startswith("-") else {}
    return found


def _name(word: str) -> tuple[str, bool, str]:
    """Name in its usual spelling (dashes), whether a value is attached, and that value."""
    name, equals, value = word.partition("=")
    return (name.replace("_", "-") if name.startswith("--") else name), bool(equals), value


def _clean(text: str) -> str:
    return text if VALUE.fullmatch(text) else "?"


def setting(kind: str, key: str, argv: Sequence[str], environ: Mapping[str, str]) -> str:
    """One setting as text: as given, or its default, or that it was not given.

    Raises NoData where servers of this kind have no such setting.
    """
    flag = next((f for f in FLAGS.get(kind, ()) if f.key == key), None)
    if flag is None:
        raise NoData(f"{kind or 'this program'} has no setting {key!r}")
    value = given(kind, argv, environ).get(key)
    if value is not None:
        return value
    return f"{flag.default} (default)" if flag.default else "not set"


def port_of(kind: str, argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """The port a command line names for metrics; 0 where it names none."""
    text = ""
    for at, word in enumerate(argv):
        name, equals, value = _name(word)
        if name in PORT.get(kind, ()):
            text = value if equals else (argv[at + 1] if at + 1 < len(argv) else "")
    if kind == "ollama":
        text = environ.get("OLLAMA_HOST", "").rpartition(":")[2]
    return int(text) if text.isascii() and text.isdigit() and 0 < int(text) < 65536 else 0


def environment(raw: bytes) -> dict[str, str]:
    """Of /proc/PID/environ only the variables that a flag names, and OLLAMA_HOST."""
    wanted = {f.env for flags in FLAGS.values() for f in flags if f.env} | {"OLLAMA_HOST"}
    pairs = (p.partition(b"=") for p in raw.split(b"\0"))
    return {name: v.decode("utf-8", "replace") for n, _, v in pairs if (name := n.decode("ascii", "replace")) in wanted}
