"""Sheds the dearest optional part (a collector, a family of eBPF programs) while etio is over its CPU budget, and tries
it again when there is room."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from etio.core.due import is_due
from etio.core.frame import NS
from etio.daemon.budget import Budget

log = logging.getLogger(__name__)

LEAST = 0.02
"""Of the budget: a part that costs less is kept, shedding it would not help."""
MAX_BACKOFF = 12


class Part(Protocol):
    """What can be shed."""

    @property
    def name(self) -> str:
        """For people."""

    @property
    def load(self) -> float:
        """Cores it costs, recently."""

    @property
    def able(self) -> bool:
        """Whether it is on and optional."""

    def shed(self, reason: str) -> None:
        """Switches it off until resume()."""

    def resume(self) -> bool:
        """Lets it run again; False while that cannot be done."""


@dataclass(slots=True)
class _Shed:
    part: Part
    retry_ns: int
    pause_ns: int


class Shedding:
    """One per daemon. retry_s: pause before a shed part is tried again; it doubles each time, up to 12 times."""

    def __init__(self, budget: Budget, parts: Sequence[Part], retry_s: float, measured: Callable[[], None],
                 more: Callable[[], Sequence[Part]] = tuple) -> None:
        """measured: called after each measurement of the budget. more: parts that come and go."""
        self._budget, self._parts, self._retry_s, self._measured, self._more = budget, parts, retry_s, measured, more
        self._off: list[_Shed] = []
        self._times: dict[str, int] = {}
        self._due_ns = 0
        self._told = False

    def tick(self, t_ns: int) -> None:
        """Measures when that is due, and acts on it. Called from the sampler's thread."""
        pause_ns = int(self._budget.every_s * NS)
        if not is_due(t_ns, self._due_ns, pause_ns):
            return
        self._due_ns = t_ns + pause_ns
        self._budget.measure()
        if self._budget.over():
            self._shed_dearest(t_ns)
        elif self._off:
            self._try_again(t_ns)
        self._measured()

    def shed(self, part: Part, t_ns: int, reason: str) -> None:
        """Switches a part off for now."""
        log.warning("%s is switched off: %s", part.name, reason)
        times = self._times[part.name] = self._times.get(part.name, 0) + 1
        pause_s = self._retry_s * min(2 ** (times - 1), MAX_BACKOFF)
        self._off.append(_Shed(part, t_ns + int(pause_s * NS), int(pause_s * NS)))
        part.shed(reason)

    def _shed_dearest(self, t_ns: int) -> None:
        cost, limit = self._budget.cost.share, self._budget.limit_percent
        able = [part for part in (*self._parts, *self._more()) if part.able]
        worst = max(able, key=lambda part: part.load, default=None)
        if worst is not None and 100.0 * worst.load >= LEAST * limit:
            self.shed(worst, t_ns, f"etio used {cost:.2g} % of a core, more than its budget of {limit:g} %, and this "
                                   f"was its dearest optional part ({100.0 * worst.load:.2g} %)")
        elif not self._told:
            self._told = True
            log.warning("etio uses %.2g %% of a core, more than its budget of %g %%; no optional part is to blame",
                        cost, limit)

    def _try_again(self, t_ns: int) -> None:
        for entry in list(self._off):
            if is_due(t_ns, entry.retry_ns, entry.pause_ns) and self._budget.room() and entry.part.resume():
                self._off.remove(entry)
                log.info("%s is tried again", entry.part.name)
                return  # one at a time: the next only when this one has shown what it costs
