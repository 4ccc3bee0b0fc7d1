"""The two classes of river that we use, without the rest of river.

Importing ``river.anomaly`` and ``river.drift`` the ordinary way runs their packages' ``__init__``, which load every
model of river, and with them scipy, pandas and (where installed) scikit-learn: measured 151 MB of proportional set
size and 1.0 s of CPU, for two classes that need none of it. Here the packages are entered without their
``__init__`` (placeholders that know where the files are, taken away again at once), which costs 8 MB and 0.07 s.
What was loaded is the same module object that an ordinary import finds later.
"""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

_PACKAGES = ("anomaly", "drift", "tree")


@contextmanager
def _bare_packages() -> Iterator[None]:
    """Stands placeholders in for the packages that are not loaded yet."""
    root = Path(importlib.import_module("river").__path__[0])
    placed = []
    for name in _PACKAGES:
        full = f"river.{name}"
        if full not in sys.modules and (root / name).is_dir():
            module = ModuleType(full)
            module.__path__ = [str(root / name)]
            sys.modules[full] = module
            placed.append(full)
    try:
        yield
    finally:
        for full in placed:
            del sys.modules[full]


def _load(package: str, module: str, name: str) -> Any:
    full = f"river.{package}.{module}"
    try:
        with _bare_packages():
            return getattr(importlib.import_module(full), name)
    except (ImportError, AttributeError):  # another version of river, laid out otherwise: pay the full price
        return getattr(importlib.import_module(f"river.{package}"), name)


def half_space_trees() -> Any:
    """The class river.anomaly.HalfSpaceTrees. Raises ImportError where river is not installed.

    >>> half_space_trees().__name__
    'HalfSpaceTrees'
    """
    return _load("anomaly", "hst", "HalfSpaceTrees")


def adwin() -> Any:
    """The class river.drift.ADWIN. Raises ImportError where river is not installed.

    >>> adwin()(delta=0.002).width
    0.0
    """
    return _load("drift", "adwin", "ADWIN")
