"""Sheds the dearest optional collector while etio is over its CPU budget, and tries it again when there is room."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from etio.core.frame import NS
from etio.daemon.budget import Budget
from etio.daemon.runner import Runner

log = logging.getLogger(__name__)

LEAST = 0.02
"""Of the budget: a collector that costs less is kept, shedding it would not help."""
MAX_BACKOFF = 12


@dataclass(slots=True)
class _Shed:
    runner: Runner
    retry_ns: int


class Shedding:
    """One per daemon. retry_s: pause before a shed collector is tried again; it doubles each time, up to 12 times."""

    def __init__(self, budget: Budget, runners: Sequence[Runner], retry_s: float,
                 measured: Callable[[], None]) -> None:
        """measured: called after each measurement of the budget."""
        self._budget, self._runners, self._retry_s, self._measured = budget, runners, retry_s, measured
        self._off: list[_Shed] = []
        self._times: dict[str, int] = {}
        self._due_ns = 0
        self._told = False

    def tick(self, t_ns: int) -> None:
        """Measures when that is due, and acts on it. Called from the sampler's thread."""
        if t_ns < self._due_ns:
            return
        self._due_ns = t_ns + int(self._budget.every_s * NS)
        self._budget.measure()
        if self._budget.over():
            self._shed_dearest(t_ns)
        elif self._off:
            self._try_again(t_ns)
        self._measured()

    def shed(self, runner: Runner, t_ns: int, reason: str) -> None:
        """Switches a collector off for now."""
        log.warning("collector %s is switched off: %s", runner.spec.name, reason)
        times = self._times[runner.spec.name] = self._times.get(runner.spec.name, 0) + 1
        pause_s = self._retry_s * min(2 ** (times - 1), MAX_BACKOFF)
        self._off.append(_Shed(runner, t_ns + int(pause_s * NS)))
        runner.shed(reason)

    def _shed_dearest(self, t_ns: int) -> None:
        cost, limit = self._budget.cost.cpu_percent, self._budget.limit_percent
        able = [r for r in self._runners if r.spec.optional and r.state == "on"]
        worst = max(able, key=lambda r: r.load, default=None)
        if worst is not None and 100.0 * worst.load >= LEAST * limit:
            self.shed(worst, t_ns, f"etio used {cost:.2g} % of a core, more than its budget of {limit:g} %, and this "
                                   f"was its dearest optional collector ({100.0 * worst.load:.2g} %)")
        elif not self._told:
            self._told = True
            log.warning("etio uses %.2g %% of a core, more than its budget of %g %%; no optional collector is to blame",
                        cost, limit)

    def _try_again(self, t_ns: int) -> None:
        for entry in list(self._off):
            if t_ns >= entry.retry_ns and self._budget.room() and entry.runner.resume():
                self._off.remove(entry)
                log.info("collector %s is tried again", entry.runner.spec.name)
                return  # one at a time: the next only when this one has shown what it costs
