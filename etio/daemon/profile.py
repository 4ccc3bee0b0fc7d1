"""The lean profile: the same eyes with less memory, for small hosts. `profile = "lean"` under [daemon].

Left out are the detector that needs river (lasting drifts of a subsystem's series; rules, robust baselines, the joint
detector, half-space trees and the others stay) and FastAPI (the same routes, answered by Starlette alone). DuckDB and
the live view get less room; reports look back as far, for they read older samples from the store.
"""

import dataclasses
from collections.abc import Mapping
from typing import TypeVar

from etio.store.config import StoreConfig

T = TypeVar("T")

PROFILES = ("full", "lean")
WITHOUT = frozenset(("drift",))
"""Detectors that import river."""
STORE_MB = 24
COMPACT_MB = 32
"""Of the child that sorts a closed day: 112 MB at its most, not 141, in the same time (14 million samples: 5 s)."""
LIVE_MINUTES = 10.0


def lean_store(store: StoreConfig) -> StoreConfig:
    """Less room for DuckDB's buffers, unless the file asks for less still."""
    return dataclasses.replace(store, memory_limit_mb=min(store.memory_limit_mb, STORE_MB),
                               compact_memory_mb=min(store.compact_memory_mb, COMPACT_MB))


def lean_detectors(detectors: Mapping[str, T]) -> dict[str, T]:
    """Those that need numpy only."""
    return {name: one for name, one in detectors.items() if name not in WITHOUT}
