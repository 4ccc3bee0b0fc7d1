"""Real faults, one per file, with expected cause, culprit and undo; and controls that must stay silent."""

import importlib
import pkgutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

Report = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Drill:
    """One fault.

    cause: the expected cause id; "" for a control, which must stay silent.
    culprit: words of which at least one must stand in the named culprit (name, cgroup, unit or claim).
    inject: a context manager that causes the fault, and undoes it on leaving, whatever happened.
    seconds: how long the fault is kept up at most.
    needs: programs without which it cannot run.
    """

    name: str
    cause: str
    culprit: tuple[str, ...]
    inject: Callable[[], AbstractContextManager[None]]
    seconds: float = 25.0
    needs: tuple[str, ...] = ()

    @property
    def control(self) -> bool:
        """Whether nothing may be reported."""
        return not self.cause

    def right_culprit(self, report: Report) -> bool:
        """Whether the report names who did it."""
        one = report.get("culprit") or {}
        text = " ".join(str(one.get(k, "")) for k in ("name", "cgroup", "unit")).lower()
        return any(word.lower() in text for word in self.culprit)


def discover() -> dict[str, Drill]:
    """All drills by name, faults first."""
    found = []
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        if hasattr(module, "DRILL"):
            found.append(module.DRILL)
    return {d.name: d for d in sorted(found, key=lambda d: (d.control, d.name))}
