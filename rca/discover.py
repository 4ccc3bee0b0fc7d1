"""Finds the causes by listing their folder. Nothing is registered anywhere."""

import importlib
import pkgutil
from functools import cache

from rca import causes as folder
from rca.spec import CauseSpec


@cache
def causes() -> tuple[CauseSpec, ...]:
    """Every CAUSE, sorted by id. Raises ValueError where a module and its cause have different names."""
    found = []
    for module in pkgutil.iter_modules(folder.__path__):
        spec: CauseSpec = importlib.import_module(f"{folder.__name__}.{module.name}").CAUSE
        if spec.id != module.name:
            raise ValueError(f"rca/causes/{module.name}.py: CAUSE.id is {spec.id!r}")
        found.append(spec)
    return tuple(sorted(found, key=lambda c: c.id))


def table() -> tuple[tuple[str, str, str, str], ...]:
    """(id, title, mechanism, source) of every cause, as the README prints them."""
    return tuple((c.id, c.title, c.mechanism, c.source) for c in causes())
