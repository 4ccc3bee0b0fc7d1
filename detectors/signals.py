"""Which numbers can no longer be believed: signals that froze, and signals that are gone while their source goes on.

A signal that practically never repeats a value (no run of equal values longer than `longest` samples over at least
`learn` changes) and then repeats one exactly for a minute is frozen: a sensor or a driver that answers with its last
reading. Zero, and a ratio of one, are no frozen values: an idle and a saturated thing rest there. Nor is a count or an
amount of what is kept (bytes of a file system, open sockets): it rests when its owner does, however lively it was
while somebody worked there.

A signal that was there without gaps and is not for a minute is missing, if the same source still tells something of
the same thing: a device that was removed, a collector that is off and a latency without any request are not meant.

A score is told for each source that had such a signal: of frozen ones the share of its comparable signals over one
half, of missing ones 1. A detector must not guess twice: after a false word the longest run is remembered for hours.

Memory: 48 bytes per series.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detectors.columns import Bools, Columns, Memory, part
from detectors.keeping import Keeping
from etio.core.errors import Broken
from etio.core.frame import NS, Floats, Frame
from etio.core.ports import DetectorSpec
from etio.core.score import Scores
from etio.core.series import Series
from etio.core.words import amount, duration

STUCK, MISSING = "SignalStuck", "SignalMissing"
KINDS = (STUCK, MISSING)
FORGET = 1 / 7200
"""Share of the longest run that is forgotten with each sample."""
AMOUNTS = frozenset({"1", "bytes", "pages", "huge pages", "KiB"})
SHARES = ("_used_ratio", "_available_ratio", "_committed_ratio")
"""Units and names of gauges that count what is kept somewhere."""
NAMED = 3
MOST_OUTPUTS = 200


@dataclass(frozen=True, slots=True)
class Config:
    """stuck_s, missing_s: how long before it is told. learn: changes (or samples) before a signal is known. longest:
    run of equal values (or of gaps) that a lively signal may have had, in samples. times: and how many times that run
    must be exceeded. sources: series name to its collector; where it says nothing, the subsystem stands for it."""

    stuck_s: float = 60.0
    missing_s: float = 60.0
    learn: int = 600
    longest: int = 12
    times: float = 10.0
    sources: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if min(self.stuck_s, self.missing_s, self.times) <= 0 or min(self.learn, self.longest) < 1:
            raise ValueError("stuck_s, missing_s and times must be positive, learn and longest at least 1")
        if not isinstance(self.sources, dict):
            raise ValueError("sources: expected a table of series name = collector")


class Signals(Keeping):
    """Scores sources: ``SignalStuck{source="hardware"}``, ``SignalMissing{source="hardware"}``.

    >>> one, rng = Signals(Config()), np.random.default_rng(1)
    >>> series = (Series("gpu_power_watts", "watts"), Series("gpu_temperature_celsius", "celsius"))
    >>> for i in range(1, 800):
    ...     x = np.array([rng.normal(300, 5) if i < 700 else 301.5, rng.normal(60, 1)])
    ...     scores = one.step(Frame(i * NS, series, x))
    >>> scores.series[0].key, float(scores.values[0]), scores.notes[0]
    ('SignalStuck{source="gpu"}', 1.0, ': gpu_power_watts has been exactly 302 W for 1.7 min')
    """

    name = "signals"

    def __init__(self, config: Config) -> None:
        self._config = config
        self._reset()

    def _reset(self) -> None:
        self._columns = Columns(value=np.full(1, np.nan), same=np.zeros(1), longest=np.ones(1), changes=np.zeros(1),
                                absent=np.zeros(1), gap=np.zeros(1))
        self._catalogue: tuple[Series, ...] = ()
        self._one = np.empty(0)
        self._steady = np.empty(0, dtype=np.bool_)
        self._kept = np.empty(0, dtype=np.bool_)
        self._things: list[tuple[str, str]] = []
        self._members: dict[tuple[str, str], list[int]] = {}
        self._outputs: dict[Series, int] = {}
        self._t_ns = 0
        self._step_s = 1.0
        self._memory = Memory()

    def step(self, frame: Frame) -> Scores:
        """float64[outputs]; a tick at or before the last one changes nothing."""
        self._grow(frame.series)
        x = frame.values
        there = np.isfinite(x)
        if frame.t_ns > self._t_ns or not self._t_ns:
            seconds = (frame.t_ns - self._t_ns) / NS if self._t_ns else 1.0
            self._step_s += 0.05 * (min(seconds, 10.0) - self._step_s)
            self._learn(x, there)
        self._t_ns = frame.t_ns
        return self._scores(x, there)

    def _learn(self, x: Floats, there: Bools) -> None:
        value, same, longest, changes, absent, gap = (
            self._columns[n] for n in ("value", "same", "longest", "changes", "absent", "gap"))
        equal = x == value
        moved = there & ~equal
        longest -= FORGET * longest
        np.maximum(longest, same, out=longest, where=moved)
        changes += moved
        same += there
        same[moved] = 1.0
        gap -= FORGET * gap
        back = there & (absent > 0)
        np.maximum(gap, absent, out=gap, where=back)
        absent += ~there
        absent[there] = 0.0
        np.copyto(value, x, where=there)

    def _stuck(self, x: Floats, there: Bools) -> tuple[Bools, Bools]:
        """(signals that are lively enough to be judged, those of them that are frozen)."""
        config, columns = self._config, self._columns
        lively = there & ~self._kept & (columns["changes"] >= config.learn) & (columns["longest"] <= config.longest)
        limit = np.maximum(config.stuck_s / self._step_s, config.times * columns["longest"])
        rest = (x == 0.0) | (x >= self._one)
        return lively, lively & (columns["same"] >= limit) & ~rest

    def _scores(self, x: Floats, there: Bools) -> Scores:
        config, columns = self._config, self._columns
        lively, stuck = self._stuck(x, there)
        gone = (columns["changes"] >= config.learn) & (columns["gap"] <= config.longest)
        late = np.maximum(config.missing_s / self._step_s, config.times * columns["gap"])
        gone &= self._steady & (columns["absent"] >= late)
        found: dict[tuple[str, str], tuple[float, str]] = {}
        if stuck.any():
            self._tell_stuck(lively, stuck, found)
        if gone.any():
            self._tell_missing(gone, there, found)
        for kind, source in found:
            if len(self._outputs) < MOST_OUTPUTS:
                self._outputs.setdefault(_output(kind, source), len(self._outputs))
        return self._told(found, there)

    def _tell_stuck(self, lively: Bools, stuck: Bools, found: dict[tuple[str, str], tuple[float, str]]) -> None:
        for thing in {self._things[i] for i in np.flatnonzero(stuck).tolist()}:
            members = [i for i in self._members[thing] if lively[i]]
            frozen = [i for i in members if stuck[i]]
            score = len(frozen) / len(members) / 0.5
            since = duration(float(self._columns["same"][frozen[0]]) * self._step_s)
            value = amount(float(self._columns["value"][frozen[0]]), self._catalogue[frozen[0]].unit)
            note = f": {self._names(frozen)} has been exactly {value} for {since}"
            if score > found.get((STUCK, thing[0]), (0.0, ""))[0]:
                found[STUCK, thing[0]] = score, note

    def _tell_missing(self, gone: Bools, there: Bools, found: dict[tuple[str, str], tuple[float, str]]) -> None:
        for thing in {self._things[i] for i in np.flatnonzero(gone).tolist()}:
            members = self._members[thing]
            if any(there[i] for i in members):
                lost = [i for i in members if gone[i]]
                since = duration(float(self._columns["absent"][lost[0]]) * self._step_s)
                found[MISSING, thing[0]] = 1.0, f": {self._names(lost)} for {since}"

    def _names(self, places: Sequence[int]) -> str:
        told = ", ".join(self._catalogue[i].key for i in places[:NAMED])
        return told + (f" and {len(places) - NAMED} more" if len(places) > NAMED else "")

    def _told(self, found: Mapping[tuple[str, str], tuple[float, str]], there: Bools) -> Scores:
        series = tuple(self._outputs)
        values, notes = np.zeros(len(series)), {}
        for i, one in enumerate(series):
            source = str(one.label("source"))
            values[i], note = found.get((one.name, source), (0.0, ""))
            if note:
                notes[i] = note
            elif not any(there[k] for thing, members in self._members.items() if thing[0] == source for k in members):
                values[i] = np.nan
        return Scores(self.name, series, values, notes)

    def _grow(self, series: tuple[Series, ...]) -> None:
        first = len(self._catalogue)
        if len(series) <= first:
            return
        self._columns.grow(len(series))
        extra = series[first:]
        self._one = np.concatenate([self._one, [1.0 if s.unit == "ratio" else np.inf for s in extra]])
        self._steady = np.concatenate([self._steady, [_steady(s) for s in extra]])
        self._kept = np.concatenate([self._kept, [_is_kept(s) for s in extra]])
        for i, one in enumerate(extra, first):
            thing = (self._config.sources.get(one.name, one.subsystem), one.entity)
            self._things.append(thing)
            self._members.setdefault(thing, []).append(i)
        self._catalogue = series
        self._memory.adopt(series, first)

    def snapshot(self) -> Mapping[str, Any]:
        """How lively each series was, by key, and what has been told of."""
        return {"keys": [s.key for s in self._catalogue], "t_ns": self._t_ns, "step_s": self._step_s,
                "signals": self._columns.snapshot(),
                "outputs": [[s.name, str(s.label("source"))] for s in self._outputs]}

    def _restore(self, state: Mapping[str, Any]) -> None:
        keys, t_ns = part(state, "keys", list), part(state, "t_ns", int)
        outputs, step_s = part(state, "outputs", list), part(state, "step_s", float)
        if t_ns < 0 or not 0 < step_s < 1e4 or len(outputs) > MOST_OUTPUTS or not all(map(_is_output, outputs)):
            raise Broken("detector state: signals: t_ns, step_s or outputs out of range")
        self._memory.load(keys, [(self._columns, part(state, "signals", dict))])
        self._t_ns, self._step_s = t_ns, step_s
        self._outputs = {_output(kind, source): i for i, (kind, source) in enumerate(outputs)}


def _steady(one: Series) -> bool:
    """Whether it has a value without any work being done: a mean has none, nor have latencies of idle servers."""
    return one.kind != "mean" and one.subsystem != "inference"


def _is_kept(one: Series) -> bool:
    """Whether it tells how much or how many there are of something, which nothing moves but its users."""
    return one.kind == "gauge" and (one.unit in AMOUNTS or any(part in one.name for part in SHARES))


def _is_output(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and pair[0] in KINDS and isinstance(pair[1], str)


def _output(kind: str, source: str) -> Series:
    return Series(kind, "thresholds", labels=(("source", source),))


DETECTOR = DetectorSpec(
    name="signals",
    config=Config,
    build=Signals,
    scope="rule",
    help="signals that froze at one value, or are gone while their source goes on",
)
