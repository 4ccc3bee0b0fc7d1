"""Control: an inference server at a high load that it serves."""

from contextlib import AbstractContextManager

from bench.drills import Drill
from bench.drills._serving import serving


def inject() -> AbstractContextManager[None]:
    """10 requests a second, about 25 at once, most of the KV cache in use, nobody waits."""
    return serving(("--max-num-seqs", "64"), 800, rate=10.0, prompt_tokens=180, output_tokens=90)


DRILL = Drill("control_serving", "", (), inject, seconds=60)
