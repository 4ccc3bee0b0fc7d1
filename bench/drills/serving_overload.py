"""More requests than an inference server may serve at once; its KV cache has room."""

from contextlib import AbstractContextManager

from bench.drills import Drill
from bench.drills._serving import serving


def inject() -> AbstractContextManager[None]:
    """12 requests a second of 100 tokens each, for a server of 8 at once that completes 4."""
    return serving(("--max-num-seqs", "8"), 4000, rate=12.0, prompt_tokens=100, output_tokens=80)


DRILL = Drill("serving_overload", "serving_overload", ("vllm",), inject, seconds=50)
