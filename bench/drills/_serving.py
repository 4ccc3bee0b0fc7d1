"""A simulated vLLM server under load, for drills (tests/inference_server.py)."""

import contextlib
import importlib.util
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PROGRAM = Path(os.environ.get("ETIO_SOURCE", Path(__file__).parents[2])) / "tests" / "inference_server.py"
"""It lies with the tests: scripts/bench, which runs an installed copy, says where the sources are."""


def _simulator() -> Any:
    spec = importlib.util.spec_from_file_location("inference_server", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["inference_server"] = module
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def serving(flags: tuple[str, ...], blocks: int, **load: float) -> Iterator[None]:
    """A server with vLLM's command line `flags`, `blocks` blocks of KV cache and this load; ended on leaving."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder, \
            _simulator().started(Path(folder), port, *flags, blocks=blocks) as server:
        server.load(**load)
        try:
            yield
        finally:  # one that ends in the middle of its work would be told as down
            server.load(rate=0.0, drop=1)
            time.sleep(7.0)
