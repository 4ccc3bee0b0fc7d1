"""More tokens than the KV cache of an inference server holds."""

from contextlib import AbstractContextManager

from bench.drills import Drill
from bench.drills._serving import serving


def inject() -> AbstractContextManager[None]:
    """Prompts of 600 tokens, 20 a second, for a cache of 9,600 tokens."""
    return serving(("--gpu-memory-utilization", "0.85", "--max-num-seqs", "64"), 600, rate=20.0, prompt_tokens=600,
                   output_tokens=200)


DRILL = Drill("kv_cache", "kv_cache_exhausted", ("vllm",), inject, seconds=40)
