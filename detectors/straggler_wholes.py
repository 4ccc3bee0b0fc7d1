"""What the straggler detector says, how it is set, and the watch over whole stages and replicas."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from detectors.columns import Bools, part
from detectors.straggler_statistics import RECENT, Cusum, Roster, between, median, spread
from etio.core.errors import Broken
from etio.core.frame import Floats


@dataclass(frozen=True, slots=True)
class Config:
    """slowdown: smallest lasting one that must be found. noise: least spread assumed. imbalance: by which a whole
    stage or replica must be heavier to be told. quiet_steps: of the whole job between two false alarms, at
    least on the average. window: steps that make a baseline, after which it is frozen.

    `slowdown` 0.05 and `noise` 0.01 are the bar and what balanced jobs show (1.3 % at the 99th percentile).
    """

    slowdown: float = 0.05
    noise: float = 0.01
    imbalance: float = 0.10
    quiet_steps: float = 3_000.0
    window: int = 32

    def __post_init__(self) -> None:
        if min(self.slowdown, self.noise, self.imbalance) <= 0 or self.quiet_steps < 1 or self.window < 2 * RECENT:
            raise ValueError("slowdown, noise and imbalance must be positive, quiet_steps >= 1, window >= 10")


@dataclass(frozen=True, slots=True)
class Slow:
    """One that is slow now: ratio of its time to what is expected; since: number of the step() call that began it."""

    what: Literal["rank", "stage", "replica"]
    number: int
    ratio: float
    since: int
    against: Literal["own history", "peers"]

    def __str__(self) -> str:
        than = "its own baseline" if self.against == "own history" else f"its peers among the {self.what}s"
        return f"{self.what} {self.number} computes {self.ratio - 1:.1%} longer than {than}, since step {self.since}"


class Wholes:
    """Stages or replicas as wholes: each against the others of its sort."""

    def __init__(self, what: Literal["stage", "replica"], config: Config) -> None:
        self._what, self._config = what, config
        self._numbers: tuple[int, ...] = ()
        self._cusum = Cusum()
        self._window = Roster(x=np.full((config.window, 1), np.nan))
        self._row = 0

    def step(self, numbers: tuple[int, ...], x: Floats, limit: float) -> None:
        """numbers: which they are; x: how much longer each takes than the others, in logarithms, NaN = unknown."""
        if numbers != self._numbers:
            self._follow(numbers)
        self._row = (self._row + 1) % self._config.window
        self._window["x"][self._row] = x
        own = spread(self._window["x"])
        typical = float(median(own))
        sigma = np.fmax(np.fmax(own, typical if np.isfinite(typical) else between(x)), self._config.noise)
        self._cusum.step(x, x, sigma, np.full(len(x), self._config.imbalance), limit)

    def _follow(self, numbers: tuple[int, ...]) -> None:
        mask: Bools = np.array([n in numbers for n in self._numbers], dtype=bool)
        kept = [n for n in self._numbers if n in numbers]
        order = [*kept, *(n for n in numbers if n not in kept)]
        at = np.array([order.index(n) for n in numbers], dtype=np.intp)
        for roster in (self._window, self._cusum.columns):
            roster.keep(mask)
            roster.grow(len(order))
            roster.turn(at)
        self._numbers = numbers

    def snapshot(self) -> dict[str, Any]:
        """State as plain values and arrays."""
        return {"numbers": list(self._numbers), "row": self._row, "cusum": self._cusum.columns.snapshot(),
                "window": self._window.snapshot()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes a snapshot back. Raises Broken where it does not fit."""
        numbers, row = part(state, "numbers", list), part(state, "row", int)
        if not all(type(n) is int for n in numbers) or not 0 <= row < self._config.window:
            raise Broken("detector state: stages or replicas: whole numbers, a row of the window")
        self._cusum.columns.replace(part(state, "cusum", dict), len(numbers))
        self._window.replace(part(state, "window", dict), len(numbers))
        self._numbers, self._row = tuple(numbers), row

    def told(self, now: int) -> list[Slow]:
        """Those that are slow now."""
        return [Slow(self._what, self._numbers[i], float(np.exp(self._cusum.size[i])),
                     self._cusum.since(int(i), now), "peers")
                for i in np.flatnonzero(self._cusum.on)]
