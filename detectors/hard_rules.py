"""Physics without learning: each rule of detectors.rules on each thing it speaks of, as measured over threshold.

A score is the least of the rule's conditions (all must hold), the greatest of the alert's rules, and NaN where an
input is missing. Rules whose series do not exist on a host have no score and cost nothing: names are resolved to
positions when the catalogue grows, a tick is pure numpy.

Memory: about 100 bytes for each condition of each thing. References are with the rules.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detectors.columns import Bools, Ints
from detectors.rule import Condition, Rule
from detectors.rules import Config, table
from etio.core.errors import Broken
from etio.core.frame import Floats, Frame
from etio.core.ports import DetectorSpec
from etio.core.score import Band, Scores
from etio.core.series import Labels, Series

LARGEST = 100.0
"""A score says no more than "a hundred times the threshold" (a free ratio of 0 would be infinitely bad)."""
LEAST = 1e-12


NAN_AT, ONE_AT, SUMS_AT = 0, 1, 2
"""Positions in the inputs of a tick: NaN, 1.0, the sums, then the values of the frame."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """The rules as arrays.

    sums: groups of positions in the frame to add up. at, per, limit, low: [2, terms], each term a condition of one
    thing and its substitute: positions of its input and of what that is divided by, threshold, whether "<=".
    rows: first term of each row (a rule on one thing). outs: first row of each output; rows are ordered by output.
    names: of the series that a row reads.
    """

    sums: list[Ints]
    at: Ints
    per: Ints
    limit: Floats
    low: Bools
    rows: Ints
    outs: Ints
    names: tuple[frozenset[str], ...]

    def scores(self, values: Floats) -> tuple[Floats, dict[int, frozenset[str]]]:
        """(float64[number of outputs], names of the series that made those outputs an alarm which are one)."""
        inputs = np.concatenate([[np.nan, 1.0], [_total(values[group]) for group in self.sums], values])
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            x = inputs[self.at] / inputs[self.per]
            x[(self.per != ONE_AT) & (x > 1.0)] = np.nan
            met = np.where(self.low, self.limit / np.maximum(x, LEAST), x / self.limit)
        met[~np.isfinite(x)] = np.nan
        met = np.clip(np.where(np.isnan(met[0]), met[1], met[0]), 0.0, LARGEST)
        by_row = np.minimum.reduceat(met, self.rows)
        scores = np.asarray(np.fmax.reduceat(by_row, self.outs))
        alarms = np.flatnonzero(scores >= 1.0)
        return scores, {i: self._read_by(i, by_row) for i in alarms.tolist()} if len(alarms) else {}

    def _read_by(self, output: int, by_row: Floats) -> frozenset[str]:
        """The series of the rule that an output has its score from."""
        first = int(self.outs[output])
        last = int(self.outs[output + 1]) if output + 1 < len(self.outs) else len(by_row)
        return self.names[first + int(np.nanargmax(by_row[first:last]))]


def _total(values: Floats) -> float:
    """Sum of what has a value; NaN where nothing has."""
    known = values[np.isfinite(values)]
    return float(known.sum()) if len(known) else np.nan


_Input = tuple[Condition, int, int]
"""A condition and the positions of its input and of what that is divided by."""
_Term = tuple[_Input, _Input]
"""A condition and its substitute."""


@dataclass(slots=True)
class _Index:
    """Where the series are that the rules name."""

    names: frozenset[str]
    series: tuple[Series, ...] = ()
    places: dict[str, list[int]] = field(default_factory=dict)
    exact: dict[tuple[str, Labels], int] = field(default_factory=dict)

    def grow(self, series: tuple[Series, ...]) -> bool:
        """Takes new series in; whether any of them matters."""
        fresh = [i for i in range(len(self.series), len(series)) if series[i].name in self.names]
        self.series = series
        for i in fresh:
            self.places.setdefault(series[i].name, []).append(i)
            self.exact[series[i].name, series[i].labels] = i
        return bool(fresh)

    def matching(self, condition: Condition | None) -> list[int]:
        """Positions of the series that a condition speaks of."""
        places = self.places.get(condition.series, []) if condition else []
        if condition is None or not condition.labels:
            return places
        return [i for i in places if set(condition.labels) <= set(self.series[i].labels)]

    def joined(self, condition: Condition, own: Labels) -> int | None:
        """The series of a condition for the thing with the labels `own`: with those and its own, else host-wide."""
        exact = self.exact.get((condition.series, tuple(sorted({*own, *condition.labels}))))
        return exact if exact is not None else self.exact.get((condition.series, condition.labels))


class _Planner:
    """Lays the rules out over the series of one catalogue."""

    def __init__(self, index: _Index, rules: tuple[Rule, ...]) -> None:
        self._index, self._rules = index, rules
        self._totals = sorted({c.series for rule in rules for c in rule.conditions if c.total})
        self._first = SUMS_AT + len(self._totals)

    def plan(self, outputs: dict[Series, int]) -> _Plan:
        """The arrays; registers new outputs at the end of `outputs`."""
        rows = [(outputs.setdefault(out, len(outputs)), terms) for out, terms in self._rows()]
        rows.sort(key=lambda row: row[0])
        both = [[term[which] for _, row in rows for term in row] for which in (0, 1)]
        return _Plan(
            sums=[np.array(self._index.places.get(name, []), dtype=np.intp) for name in self._totals],
            at=np.array([[at for _, at, _ in terms] for terms in both], dtype=np.intp),
            per=np.array([[per for *_, per in terms] for terms in both], dtype=np.intp),
            limit=np.array([[c.threshold for c, *_ in terms] for terms in both]),
            low=np.array([[c.op == "<=" for c, *_ in terms] for terms in both], dtype=np.bool_),
            rows=np.cumsum([0, *(len(row) for _, row in rows[:-1])]),
            outs=np.array([i for i, row in enumerate(rows) if i == 0 or rows[i - 1][0] != row[0]], dtype=np.intp),
            names=tuple(frozenset(c.series for term in row for c, *_ in term) for _, row in rows),
        )

    def _rows(self) -> Iterator[tuple[Series, list[_Term]]]:
        """Each rule on each thing: its output and its terms."""
        for rule in self._rules:
            first, (label, skipped) = rule.conditions[0], rule.skip
            for place in self._index.matching(first) or self._index.matching(first.instead):
                own = self._index.series[place].labels
                if dict(own).get(label) not in skipped:
                    thing = tuple(pair for pair in own if pair not in first.labels)
                    terms = [(self._input(c, thing), self._input(c.instead or c, thing)) for c in rule.conditions]
                    yield Series(rule.alert, "thresholds", labels=thing), terms

    def _input(self, condition: Condition, own: Labels) -> _Input:
        """Positions of what a condition reads for the thing with these labels; that of NaN where there is nothing."""
        if condition.total:
            return condition, SUMS_AT + self._totals.index(condition.series), ONE_AT
        place = self._index.joined(condition, own)
        base = self._index.exact.get((condition.per, ()))
        at = NAN_AT if place is None else self._first + place
        if not condition.per:
            return condition, at, ONE_AT
        return condition, at, NAN_AT if base is None else self._first + base


class HardRules:
    """Scores each rule on each thing; labels of a score are those of the thing.

    >>> series = (Series("cpu_busy_ratio", "ratio"), Series("pressure_cpu_some_ratio", "ratio"))
    >>> scores = HardRules(Config()).step(Frame(1, series, np.array([1.0, 0.1])))
    >>> scores.series[0].key, float(scores.values[0])
    ('CpuSaturated', 0.5)
    """

    name = "hard_rules"

    def __init__(self, config: Config) -> None:
        self.rules = table(config)
        self._reset()

    def _reset(self) -> None:
        conditions = [c for rule in self.rules for c in rule.conditions]
        conditions += [c.instead for c in conditions if c.instead]
        self._index = _Index(frozenset({name for c in conditions for name in (c.series, c.per)}))
        self._outputs: dict[Series, int] = {}
        self._series: tuple[Series, ...] = ()
        self._plan: _Plan | None = None

    def step(self, frame: Frame) -> Scores:
        """float64[outputs]; outputs appear with their inputs and stay."""
        if len(frame.series) > len(self._index.series) and self._index.grow(frame.series):
            plan = _Planner(self._index, self.rules).plan(self._outputs)
            self._plan, self._series = plan if self._outputs else None, tuple(self._outputs)
        values, shown = self._plan.scores(frame.values) if self._plan else (np.empty(0), {})
        return Scores(self.name, self._series, values, shown=shown)

    def band(self) -> Band | None:
        """None: a rule expects nothing of a series."""
        return None

    def snapshot(self) -> Mapping[str, Any]:
        """Empty: nothing is learned."""
        return {}

    def restore(self, state: Mapping[str, Any], series: tuple[Series, ...]) -> None:
        """Starts afresh; raises Broken where the state is not the empty one."""
        self._reset()
        if len(state):
            raise Broken(f"detector state: hard_rules keeps none, got {sorted(map(str, state))[0]}")


DETECTOR = DetectorSpec(
    name="hard_rules",
    config=Config,
    build=HardRules,
    scope="rule",
    help="fixed thresholds where physics says so: saturation, exhaustion, errors",
)
