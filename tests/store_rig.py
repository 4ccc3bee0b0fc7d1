"""Stores for tests: a configuration that keeps still, writing that is settled, waiting."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from etio.core.frame import Frame
from etio.store.config import StoreConfig
from etio.store.store import Store


def config(directory: Path, **changes: Any) -> StoreConfig:
    """Nothing is written, compacted, dropped or removed by itself, unless `changes` say so."""
    return StoreConfig(**{"directory": str(directory), "batch_seconds": 60.0, "min_free_bytes": 0, "compact": False,
                          "queue_frames": 10**6, "raw_days": 400, "retention_days": 800, **changes})


def write(store: Store, some: Iterable[Frame]) -> None:
    """All of them, settled when it returns."""
    for frame in some:
        assert store.writer.put_frame(frame)
    assert store.writer.flush(60), store.writer.stats.last_error


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """What follows a batch comes after it is told to be settled."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
