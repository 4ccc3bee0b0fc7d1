"""Does something get slower and slower? A latency that has risen steadily for an hour, beyond what its load explains.

Two-minute means of the last 72 minutes of each latency; a robust line through them (`detectors.sen`). It speaks when
most pairs rise, when even the lower end of the slope's interval means growth, when the line has risen by `rise` of
where it began and by more than anybody would overlook, and when the load (requests of the same thing) has not risen
by half as much meanwhile: what is asked more may answer later.

A score is the rise over the least that is told; NaN before `least` means are there.

Memory: 1.2 kB per latency (with its load), at most `series` of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from detectors.columns import Ints, Memory, part
from detectors.keeping import Keeping
from detectors.rollup import MEANS, Rollups
from detectors.sen import sen
from etio.core.errors import Broken
from etio.core.frame import Floats, Frame
from etio.core.ports import DetectorSpec
from etio.core.score import Scores
from etio.core.series import Labels, Series
from etio.core.words import amount, duration, figure

PACE_S = 120.0
TAU = 0.5
"""Share of rising pairs less that of falling ones: three of four rise."""
LARGEST = 100.0
LATENCIES: Mapping[str, tuple[str, float]] = {
    "disk_read_latency_seconds": ("disk_reads_per_second", 1e-3),
    "disk_write_latency_seconds": ("disk_writes_per_second", 2e-3),
    "block_latency_p99_seconds": ("block_requests_per_second", 5e-3),
    "sched_run_delay_p99_seconds": ("sched_wakeups_per_second", 5e-3),
}
"""Latency to its load, and the least rise in seconds that matters."""


@dataclass(frozen=True, slots=True)
class Config:
    """rise: share of the level at the begin of the window. least: means before the first verdict. series: most
    latencies that are followed."""

    rise: float = 0.3
    least: int = 27
    series: int = 128

    def __post_init__(self) -> None:
        if self.rise <= 0 or not 8 <= self.least <= MEANS or self.series < 1:
            raise ValueError(f"rise must be positive, least 8..{MEANS}, series at least 1")


class Degradation(Keeping):
    """Scores latencies: ``SlowDegradation{device="sda",series="disk_read_latency_seconds"}``.

    >>> from etio.core.frame import NS
    >>> one, rng = Degradation(Config()), np.random.default_rng(1)
    >>> series = (Series("disk_read_latency_seconds", "seconds", "mean", (("device", "sda"),)),)
    >>> for t in range(0, 4800, 10):
    ...     scores = one.step(Frame((t + 1) * NS, series, np.array([0.010 * (1 + t / 9000) * rng.normal(1, 0.05)])))
    >>> scores.series[0].entity, bool(scores.values[0] > 1), scores.notes[0]
    ('device=sda,series=disk_read_latency_seconds', True, ': from 10 ms to 15 ms in 1.2 h, 47 % more')
    """

    name = "degradation"

    def __init__(self, config: Config) -> None:
        self._config = config
        self._reset()

    def _reset(self) -> None:
        self._rolled = Rollups((PACE_S,))
        self._inputs: list[Series] = []
        self._at: Ints = np.empty(0, dtype=np.intp)
        self._load: list[int] = []
        self._outputs: list[Series] = []
        self._of: list[int] = []
        self._scores = np.empty(0)
        self._notes: dict[int, str] = {}
        self._known = self._t_ns = 0
        self._memory = Memory()

    def step(self, frame: Frame) -> Scores:
        """float64[latencies]; between two means the last scores. A tick at or before the last one changes nothing."""
        self._grow(frame.series)
        later = frame.t_ns > self._t_ns or not self._t_ns
        if later and len(self._at) and self._rolled.step(frame.t_ns, frame.values[self._at]):
            self._judge()
        self._t_ns = frame.t_ns
        there = np.isfinite(frame.values[self._at[self._of]]) if self._of else np.empty(0, dtype=np.bool_)
        quiet = np.where(there, self._scores, np.nan)
        return Scores(self.name, tuple(self._outputs), quiet, dict(self._notes))

    def _judge(self) -> None:
        ring = self._rolled.ring(0)
        self._notes = {}
        for i, at in enumerate(self._of):
            self._scores[i] = self._one(i, ring[:, at], ring[:, self._load[i]] if self._load[i] >= 0 else None)

    def _one(self, i: int, x: Floats, load: Floats | None) -> float:
        known = np.isfinite(x)
        if known.sum() < self._config.least:
            return np.nan
        half = MEANS // 2
        early, late = x[:half][known[:half]], x[half:][known[half:]]
        if len(early) < 4 or len(late) < 4 or np.median(late) < np.median(early) * (1 + self._config.rise / 4):
            return 0.0
        fit = sen(x[:, None])
        steps = float(MEANS - 1 - np.argmax(known))
        end = float(fit.newest[0])
        begin = end - float(fit.slope[0]) * steps
        least = max(self._config.rise * begin, LATENCIES[self._inputs[self._of[i]].name][1])
        rise = end - begin
        if begin <= 0 or fit.tau[0] < TAU or fit.low[0] * steps < least / 2 or _explained(load, rise / begin):
            return 0.0
        score = min(rise / least, LARGEST)
        if score >= 1:
            self._notes[i] = (f": from {amount(begin, 'seconds')} to {amount(end, 'seconds')} in"
                              f" {duration(steps * PACE_S)}, {figure(100 * rise / begin)} % more")
        return score

    def _grow(self, series: tuple[Series, ...]) -> None:
        fresh = [(i, s) for i, s in enumerate(series[self._known:], self._known) if s.name in _NAMES]
        self._known = max(self._known, len(series))
        fresh = fresh[:2 * self._config.series - len(self._inputs)]
        if not fresh:
            return
        before = len(self._inputs)
        self._inputs += [s for _, s in fresh]
        self._at = np.concatenate([self._at, np.array([i for i, _ in fresh], dtype=np.intp)])
        place: dict[tuple[str, Labels], int] = {(s.name, s.labels): k for k, s in enumerate(self._inputs)}
        new = [k for k, s in enumerate(self._inputs) if s.name in LATENCIES and k >= before]
        self._of += new
        self._outputs += [_output(self._inputs[k]) for k in new]
        self._load = [place.get((LATENCIES[self._inputs[k].name][0], self._inputs[k].labels), -1) for k in self._of]
        self._scores = np.concatenate([self._scores, np.full(len(new), np.nan)])
        self._rolled.columns.grow(len(self._inputs))
        self._memory.adopt(self._inputs, before)
        self._judge()

    def snapshot(self) -> Mapping[str, Any]:
        """The means, by series key; the scores follow from them."""
        return {"keys": [s.key for s in self._inputs], "t_ns": self._t_ns, "rolled": self._rolled.snapshot()}

    def _restore(self, state: Mapping[str, Any]) -> None:
        keys, t_ns = part(state, "keys", list), part(state, "t_ns", int)
        if t_ns < 0:
            raise Broken("detector state: t_ns: negative")
        saved = self._rolled.restore(part(state, "rolled", dict))
        self._memory.load(keys, [(self._rolled.columns, saved)])
        self._t_ns = t_ns


def _explained(load: Floats | None, rise: float) -> bool:
    """Whether the load has risen by half as much as the latency."""
    if load is None:
        return False
    half = MEANS // 2
    early, late = load[:half], load[half:]
    if not (np.isfinite(early).any() and np.isfinite(late).any()):
        return False
    before = float(np.median(early[np.isfinite(early)]))
    return float(np.median(late[np.isfinite(late)])) > before * (1 + rise / 4)


def _output(one: Series) -> Series:
    return Series("SlowDegradation", "thresholds", labels=tuple(sorted((*one.labels, ("series", one.name)))))


_NAMES = {*LATENCIES, *(load for load, _ in LATENCIES.values())}

DETECTOR = DetectorSpec(
    name="degradation",
    config=Config,
    build=Degradation,
    scope="rule",
    help="latencies that rise steadily for an hour, beyond what their load explains",
)
