"""Detectors: Frames in, Scores out. One detector per file; `discover()` finds them.

A module of this package that holds a constant DETECTOR is a detector; the others are their parts. Importing the
package, or any module of it, needs numpy only: river is imported where a detector is built.
"""

import importlib
import pkgutil

from etio.core.ports import DetectorSpec


def discover() -> dict[str, DetectorSpec]:
    """Every detector of this package by name, in the order of the file names.

    >>> {'hard_rules', 'joint', 'robust_z', 'signals', 'trends'} <= set(discover())
    True
    """
    found = {}
    for module in pkgutil.iter_modules(__path__):
        spec = getattr(importlib.import_module(f"{__name__}.{module.name}"), "DETECTOR", None)
        if isinstance(spec, DetectorSpec):
            found[spec.name] = spec
    return found
