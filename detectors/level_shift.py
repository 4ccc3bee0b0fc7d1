"""Has the level of a series shifted, when, and from what to what?

Each series is kept as 36 means at two paces (10 s and 2 min). At each new mean the newest 16 are held against the 20
before: first by their averages, which is cheap and rules nearly everything out, then, for what is left, by medians. A
shift is told only when it is verified by size and by length: the medians differ by `spreads` robust spreads and by
several least spreads of the unit, and nearly all means of each side lie on their own side of the middle between them.
So it is told 2.5 minutes after it happened (half an hour at the slow pace), with the moment of the first mean beyond
the middle, and never for a spike or a burst that ended. Then the new level is the level: nothing more is told of this
series before a whole window lies behind the shift.

A score is the difference over the least that would be told, for `hold_s`; else 0, and NaN without values.

Memory: 352 bytes per series.

References
----------
Page, E. S. (1954). Continuous inspection schemes. Biometrika 41, 100-115. https://doi.org/10.1093/biomet/41.1-2.100
Rousseeuw, P. J., Croux, C. (1993). Alternatives to the median absolute deviation. JASA 88(424), 1273-1283.
    https://doi.org/10.1080/01621459.1993.10476408
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from detectors.columns import Columns, Ints, Memory, part
from detectors.keeping import Keeping
from detectors.robust_z import floors
from detectors.rollup import Rollups
from etio.core.errors import Broken
from etio.core.frame import NS, Floats, Frame
from etio.core.ports import DetectorSpec
from etio.core.score import Scores, Shift
from etio.core.series import Series
from etio.core.words import amount

PACES_S = (10.0, 120.0)
AFTER = 16
"""Newest means, of MEANS; the older ones are the level before."""
MAD_TO_SIGMA = 1.4826
OWN_SIDE = 0.9
"""Share of the means that must lie on their own side of the middle."""
LEAST = 4.0
"""Least difference in least spreads of the unit."""
RELATIVE = 0.1
"""And as a share of the level."""
MOST_TOLD = 2000
MOST_A_TICK = 50
"""Shifts told at once. When a machine's load changes, hundreds of series shift in the same moment; what waits is not
lost, and found again after a restart."""
LARGEST = 100.0


@dataclass(frozen=True, slots=True)
class Config:
    """spreads: robust spreads between the levels. hold_s: how long a shift is told."""

    spreads: float = 6.0
    hold_s: float = 300.0

    def __post_init__(self) -> None:
        if min(self.spreads, self.hold_s) <= 0:
            raise ValueError("spreads and hold_s must be positive")


class LevelShift(Keeping):
    """Scores series that have shifted: ``level_shift{series="cpu_busy_ratio"}``.

    >>> one, series = LevelShift(Config()), (Series("cpu_busy_ratio", "ratio"),)
    >>> rng, told = np.random.default_rng(1), {}
    >>> for i in range(1, 900):
    ...     x = np.array([rng.normal(0.05 if i < 600 else 0.35, 0.02)])
    ...     told |= one.step(Frame(i * NS, series, x)).notes
    >>> told
    {0: ': level shifted at 00:10:00 UTC from 5.2 % to 35 %'}
    """

    name = "level_shift"

    def __init__(self, config: Config) -> None:
        self._config = config
        self._reset()

    def _reset(self) -> None:
        self._rolled = Rollups(PACES_S)
        self._told = Columns(until=np.zeros((len(PACES_S), 1), dtype=np.int64))
        self._catalogue: tuple[Series, ...] = ()
        self._floor = np.empty(0)
        self._outputs: dict[Series, int] = {}
        self._at: list[int] = []
        self._shifts: list[Shift] = []
        self._held: list[int] = []
        self._notes: list[str] = []
        self._series: tuple[Series, ...] = ()
        self._arrays: tuple[Ints, Ints] | None = None
        self._line: dict[tuple[int, int], Shift] = {}
        self._t_ns = 0
        self._memory = Memory()

    def step(self, frame: Frame) -> Scores:
        """float64[series that ever shifted]; a tick at or before the last one changes nothing."""
        self._grow(frame.series)
        if frame.t_ns > self._t_ns or not self._t_ns:
            for level in self._rolled.step(frame.t_ns, frame.values):
                self._look(level, frame.t_ns)
            if self._line:
                self._tell_some(frame.t_ns)
        self._t_ns = frame.t_ns
        at, held = self._columns()
        values = np.where((at >= 0) & np.isfinite(np.append(frame.values, np.nan)[at]), 0.0, np.nan)
        told = np.flatnonzero((values == 0.0) & (frame.t_ns < held)).tolist()
        values[told] = [self._shifts[i].size for i in told]
        return Scores(self.name, self._series, values, {i: self._notes[i] for i in told})

    def _columns(self) -> tuple[Ints, Ints]:
        """Place in the frame of each output, and until when it is told; made anew only after something was told."""
        if self._arrays is None:
            self._arrays = np.array(self._at, dtype=np.intp), np.array(self._held, dtype=np.int64)
            self._series = tuple(self._outputs)
        return self._arrays

    def shifts(self) -> list[tuple[Series, Shift]]:
        """Series whose shift was verified by the last frame."""
        new = self._t_ns + int(self._config.hold_s * NS)
        at, held = self._columns()
        return [(self._catalogue[self._at[i]], self._shifts[i])
                for i in np.flatnonzero((held == new) & (at >= 0)).tolist()]

    def _look(self, level: int, t_ns: int) -> None:
        """Finds the series of a level whose newest means shifted; they wait in line to be told."""
        ring = self._rolled.columns["ring"][level]
        before = ring[:-AFTER].mean(axis=0)
        least = 0.8 * np.maximum(LEAST * self._floor, RELATIVE * np.abs(before))
        early, late = ring[-AFTER:-AFTER + 3].mean(axis=0) - before, ring[-3:].mean(axis=0) - before
        moved = (np.minimum(np.abs(early), np.abs(late)) >= least) & (early * late > 0)
        moved &= self._told["until"][level] <= t_ns
        places = np.flatnonzero(moved)
        if len(places):
            for i, found in self._verified(level, places, ring[:, places].astype(np.float64)):
                self._line.setdefault((level, i), found)

    def _verified(self, level: int, places: Ints, means: Floats) -> list[tuple[int, Shift]]:
        """Those of float64[MEANS, k] that really shifted, each with its place and its moment."""
        old, new = means[:-AFTER], means[-AFTER:]
        before, after = np.median(old, axis=0), np.median(new, axis=0)
        spread = MAD_TO_SIGMA * np.maximum(np.median(np.abs(old - before), axis=0),
                                           np.median(np.abs(new - after), axis=0))
        least = np.maximum(np.maximum(self._config.spreads * spread, LEAST * self._floor[places]),
                           RELATIVE * np.abs(before))
        beyond = (means - (before + after) / 2) * np.sign(after - before) > 0
        good = (np.abs(after - before) >= least) & (beyond[-AFTER:].mean(axis=0) >= OWN_SIDE)
        good &= beyond[:-AFTER].mean(axis=0) <= 1 - OWN_SIDE
        back = np.argmin(beyond[::-1], axis=0)
        size = np.minimum(np.abs(after - before) / np.maximum(least, 1e-12), LARGEST)
        opened, pace_ns = self._rolled.opened(level), int(PACES_S[level] * NS)
        return [(int(places[k]), Shift(opened - int(back[k]) * pace_ns, float(before[k]), float(after[k]),
                                       float(size[k]))) for k in np.flatnonzero(good).tolist()]

    def _tell_some(self, t_ns: int) -> None:
        """Tells of those in line, the largest first, so many that no tick takes long; the others wait a tick."""
        first = sorted(self._line, key=lambda one: -self._line[one].size)[:MOST_A_TICK]
        for level, i in first:
            found = self._line.pop((level, i))
            if self._told["until"][level, i] <= t_ns:  # the other pace has not told it meanwhile
                self._tell(level, i, found, t_ns)

    def _tell(self, level: int, i: int, found: Shift, t_ns: int) -> None:
        self._arrays = None
        for pace in range(level + 1):
            self._told["until"][pace, i] = t_ns + AFTER * int(PACES_S[level] * NS)
        key = _output(self._catalogue[i])
        if key not in self._outputs:
            if len(self._outputs) >= MOST_TOLD:
                return
            self._outputs[key] = len(self._outputs)
            self._at.append(i)
            self._shifts.append(found)
            self._held.append(0)
            self._notes.append("")
        at = self._outputs[key]
        self._at[at], self._shifts[at], self._held[at] = i, found, t_ns + int(self._config.hold_s * NS)
        self._notes[at] = _note(found, self._catalogue[i].unit)

    def _grow(self, series: tuple[Series, ...]) -> None:
        first = len(self._catalogue)
        if len(series) <= first:
            return
        self._rolled.columns.grow(len(series))
        self._told.grow(len(series))
        self._floor = np.concatenate([self._floor, floors(series[first:])])
        self._catalogue = series
        for i, one in enumerate(series[first:], first):
            at = self._outputs.get(_output(one))
            if at is not None and self._at[at] < 0:
                self._at[at], self._arrays = i, None
                self._notes[at] = _note(self._shifts[at], one.unit)
        self._memory.adopt(series, first)

    def snapshot(self) -> Mapping[str, Any]:
        """The means at both paces, by series key, and what has been told."""
        told = [[s.name, [list(pair) for pair in s.labels], float(h), float(x.t_ns), x.before, x.after, x.size]
                for s, h, x in zip(self._outputs, self._held, self._shifts, strict=True)]
        return {"keys": [s.key for s in self._catalogue], "t_ns": self._t_ns, "rolled": self._rolled.snapshot(),
                "until": self._told.snapshot(), "told": told}

    def _restore(self, state: Mapping[str, Any]) -> None:
        keys, t_ns, told = part(state, "keys", list), part(state, "t_ns", int), part(state, "told", list)
        if t_ns < 0 or len(told) > MOST_TOLD:
            raise Broken("detector state: t_ns negative or too much told")
        for one in told:
            output, held, shift = _kept(one)
            if output in self._outputs:
                raise Broken("detector state: told: a series stands there twice")
            self._outputs[output] = len(self._outputs)
            self._at.append(-1)
            self._held.append(held)
            self._notes.append("")
            self._shifts.append(shift)
        saved = self._rolled.restore(part(state, "rolled", dict))
        self._memory.load(keys, [(self._rolled.columns, saved), (self._told, part(state, "until", dict))])
        self._t_ns = t_ns


def _kept(one: Any) -> tuple[Series, int, Shift]:
    """One line of what has been told. Raises Broken where it is of another form."""
    try:
        name, pairs, held, t_ns, before, after, size = one
        labels = tuple((str(k), str(v)) for k, v in pairs)
        shift = Shift(int(t_ns), float(before), float(after), float(size))
        finite = np.isfinite([held, t_ns, before, after, size]).all()
        if name != "level_shift" or not finite or size < 0:
            raise ValueError("out of range")
        return Series(name, "thresholds", labels=labels), int(held), shift
    except (TypeError, ValueError, OverflowError) as error:
        raise Broken(f"detector state: told: {error}") from error


def _note(shift: Shift, unit: str) -> str:
    moment = datetime.fromtimestamp(shift.t_ns // NS, UTC).strftime("%H:%M:%S UTC")
    return f": level shifted at {moment} from {amount(shift.before, unit)} to {amount(shift.after, unit)}"


def _output(one: Series) -> Series:
    return Series("level_shift", "thresholds", labels=tuple(sorted((*one.labels, ("series", one.name)))))


DETECTOR = DetectorSpec(
    name="level_shift",
    config=Config,
    build=LevelShift,
    scope="group",
    help="change points: a level that has shifted, verified by size and length, with its moment",
)
