"""A simulated vLLM server under load, for drills."""

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.daemon import free_port
from bench.inference_server import started


@contextlib.contextmanager
def serving(flags: tuple[str, ...], blocks: int, **load: float) -> Iterator[None]:
    """A server with vLLM's command line `flags`, `blocks` blocks of KV cache and this load; ended on leaving."""
    with tempfile.TemporaryDirectory() as folder, \
            started(Path(folder), free_port(), *flags, blocks=blocks) as server:
        server.load(**load)
        try:
            yield
        finally:  # one that ends in the middle of its work would be told as down
            server.load(rate=0.0, drop=1)
            time.sleep(7.0)
