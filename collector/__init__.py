"""Reads the host: one file per source. Discovery lists this folder; there is no table to edit."""

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from etio.core.ports import CollectorSpec

SEPARATE_PROGRAMS = frozenset({"loader", "warden"})
"""Modules of collector.ebpf that run as programs of their own, under the distribution's Python; never imported here."""


def discover() -> "dict[str, CollectorSpec]":
    """Every COLLECTOR constant of this folder and of collector/ebpf, by collector name.

    Raises ValueError when two modules claim one name.
    """
    from etio.core.ports import CollectorSpec  # here: the NVML worker is in this package and does without numpy

    found: dict[str, CollectorSpec] = {}
    for module in _modules():
        spec = getattr(importlib.import_module(module), "COLLECTOR", None)
        if not isinstance(spec, CollectorSpec):
            continue
        if spec.name in found:
            raise ValueError(f"{module}: a collector named {spec.name!r} exists already")
        found[spec.name] = spec
    return found


def _modules() -> Iterator[str]:
    here = Path(__file__).parent
    for package, folder in (("collector", here), ("collector.ebpf", here / "ebpf")):
        for info in sorted(pkgutil.iter_modules([str(folder)]), key=lambda i: i.name):
            if not info.ispkg and info.name not in SEPARATE_PROGRAMS and not info.name.startswith("_"):
                yield f"{package}.{info.name}"
