"""The latency model of one server while it works: learns, notices a new regime, and tells "slower than this load
explains" from "busier".

Two models of the same form. The *current* one predicts: refitted every few steps to a sliding window with
exponential weights; a Kolmogorov-Smirnov test on its residuals tells a change of regime, upon which the rows from
before are dropped and the model from before, scaled, stands in for the loads not seen since. The *reference* judges: it
rests on steps taken while all was well, the first few of each load, and does not learn while the server is slow; so a
slowdown that lasts stays flagged. It moves when the server has become faster, or when a person accepts.

Score: the mean log ratio of measured to expected over the last `block` steps, less what is usual, over the larger of
the tail quantile for `false_alarm` and the smallest slowdown worth telling. Ratios are clipped so that two stalled
steps (a prompt chunk, a collection of garbage) do not reach 1 and three of a block do. NaN: warming up, or a load far
beyond those that the reference knows.

Memory: `window` and at most CELLS * EACH kept steps of three numbers, below 200 kB per server.
Cost: about 0.15 ms CPU per step, most of it in the refit after every tenth.
"""

from collections import deque
from collections.abc import Mapping
from math import isfinite, isnan, log, log1p, nan
from typing import Any

import numpy as np

from detectors.saturation import FORMS, LatencyModel, from_plain, to_plain
from detectors.saturation_fit import fit
from detectors.saturation_known import Start
from detectors.saturation_reference import Config, Reference
from detectors.saturation_statistics import mann_whitney, smirnov
from etio.core.errors import Broken, NoData
from etio.core.frame import Floats

STALLS = 2.25
"""Ratios are clipped at the smallest slowdown told, were it spread over a block: so many stalls make an alarm."""
STAND_IN = 24
STAND_IN_WEIGHT = 8.0
STAND_IN_HALF_LIFE = 20.0
"""After a change: so many loads of the time before, weighing as much as 8 steps, half of that after 20 steps."""
CHOOSE_EVERY = 10


class OnlineLatency:
    """Feeds on steps of one server, in order; see the module. `start`: from `Known`, for a warm start."""

    def __init__(self, config: Config | None = None, start: Start | None = None) -> None:
        self.config = config or Config()
        self.model: LatencyModel | None = None if start is None else start.model
        self.reference = Reference()
        self.seen = self.changes = 0
        self.degraded = False
        self._rows: deque[tuple[float, float, float]] = deque(maxlen=self.config.window)
        self._errors: deque[float] = deque(maxlen=self.config.window)
        self._excess: deque[float] = deque(maxlen=self.config.recent)
        self._form, self._refits, self._since = "", 0, 0
        self._before: tuple[LatencyModel, Floats] | None = None
        self._limit: tuple[float, float] | None = None
        self._clip = log1p(self.config.least_excess) * self.config.block / STALLS
        if start is not None and start.exact:
            self.reference.model = start.model

    def predict(self, batch: float, tokens: float) -> float:
        """Expected milliseconds of a step now. NoData before anything is known."""
        if self.model is None:
            raise NoData("latency model: still learning")
        return float(self.model.predict(batch, tokens))

    def observe(self, batch: float, tokens: float, ms: float) -> float:
        """Score of one measured step, then learns from it. A missing (NaN) value is no observation: NaN.

        batch: sequences; tokens: in their KV caches together. Raises Broken for zero, negative or infinite values.
        """
        row = (float(batch), float(tokens), float(ms))
        if any(isnan(value) for value in row):
            return nan
        if not all(isfinite(value) and value > 0 for value in row):
            raise Broken(f"latency model: {row[0]:g} sequences, {row[1]:g} tokens, {row[2]:g} ms: not all positive")
        self.seen, self._since = self.seen + 1, self._since + 1
        score = self._judge(row)
        if self.model is not None:
            self._errors.append(log(row[2] / float(self.model.predict(row[0], row[1]))))
        self._rows.append(row)
        if self.seen % self.config.refit_every == 0:
            self._learn()
        return score

    def accept(self) -> None:
        """A person says that the present speed is the new normal: the reference starts again from here."""
        self.reference, self.degraded, self._limit = Reference(), False, None
        self._excess.clear()
        for row in list(self._rows)[-self.config.first:]:
            self.reference.keep(row)
        self.reference.learn()

    def steps(self) -> Floats:
        """float64[n, 3]: sequences, tokens, milliseconds of the steps it rests on, the newest last."""
        kept = [row for cell in self.reference.cells.values() for row in cell]
        return np.array([*kept, *self._rows]).reshape(-1, 3)

    def snapshot(self) -> dict[str, Any]:
        """Plain values and arrays for a state file: a restart goes on where it stopped."""
        reference = self.reference
        return {"model": None if self.model is None else to_plain(self.model), "form": self._form, "seen": self.seen,
                "changes": self.changes, "degraded": self.degraded, "rows": np.array(self._rows),
                "errors": np.array(self._errors), "excess": np.array(self._excess),
                "limit": None if self._limit is None else list(self._limit), "reference": reference.snapshot()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes a snapshot back. Raises Broken and stays as it was when it is none."""
        try:
            fresh = OnlineLatency(self.config)
            fresh.model = None if state["model"] is None else from_plain(state["model"])
            fresh._form, fresh.seen, fresh.changes = str(state["form"]), int(state["seen"]), int(state["changes"])
            fresh.degraded = bool(state["degraded"])
            fresh._rows.extend((float(b), float(s), float(ms)) for b, s, ms in state["rows"])
            fresh._errors.extend(map(float, state["errors"]))
            fresh._excess.extend(map(float, state["excess"]))
            fresh._limit = None if state["limit"] is None else (float(state["limit"][0]), float(state["limit"][1]))
            fresh.reference.restore(state["reference"])
        except (KeyError, TypeError, ValueError) as error:
            raise Broken(f"latency model: not a snapshot: {error!r}") from error
        self.__dict__.update(fresh.__dict__)

    def _judge(self, row: tuple[float, float, float]) -> float:
        reference, config = self.reference, self.config
        if self.seen <= config.first and not reference.batch_max:
            reference.keep(row)
        excess = reference.excess(*row)
        if isnan(excess):
            if reference.model is not None and reference.batch_max and not self.degraded:
                reference.keep(row)
            return nan
        excess = max(-self._clip, min(self._clip, excess))
        self._excess.append(excess)
        if len(self._excess) < config.block:
            return nan
        mean = float(np.mean(list(self._excess)[-config.block:]))
        if len(reference.calm_means) < config.first:
            reference.calm.append(excess)
            reference.calm_means.append(mean)
            return nan
        if self._limit is None or self.seen % config.refit_every == 0:
            self._limit = reference.threshold(config)
        usual, limit = self._limit
        score = (mean - usual) / limit
        if score < 0.5 and not self.degraded:
            reference.calm.append(excess)
            reference.calm_means.append(mean)
            reference.keep(row)
        return score

    def _learn(self) -> None:
        self._regime()
        self._refit()
        self._health()

    def _regime(self) -> None:
        """Drops what came before a change of the residuals' distribution."""
        errors, recent = np.array(self._errors), self.config.recent
        if self.model is None or len(errors) < 2 * recent:
            return
        before, now = errors[:-recent], errors[-recent:]
        shift = abs(float(np.median(now) - np.median(before)))
        if smirnov(now, before)[1] >= self.config.drift_p or shift < 0.5 * log1p(self.config.least_excess):
            return
        tail = errors[-2 * recent:]
        keep = len(tail) - 1 - int(np.argmax(np.abs(np.cumsum(tail - tail.mean()))[:-1]))
        rows = list(self._rows)
        loads = np.array(rows)[np.linspace(0, len(rows) - 1, min(STAND_IN, len(rows))).astype(int)]
        self._before = (self.model, loads)
        self._rows = deque(rows[-keep:], maxlen=self.config.window)
        self._errors.clear()
        self.changes, self._since, self._form = self.changes + 1, keep, ""

    def _refit(self) -> None:
        rows = np.array(self._rows)
        weight = 0.5 ** (np.arange(len(rows))[::-1] / self.config.half_life)
        rows, weight = self._with_stand_ins(rows, weight)
        again = not self._form or self._refits % CHOOSE_EVERY == 0
        try:
            one = fit(rows[:, 0], rows[:, 1], rows[:, 2], weight, FORMS[:3] if again else (self._form,))
        except NoData:
            return
        self.model, self._form = one.model, one.model.form
        self._refits += 1

    def _with_stand_ins(self, rows: Floats, weight: Floats) -> tuple[Floats, Floats]:
        """Adds loads of the regime before, at the times of its model times the common factor of the new rows."""
        if self._before is None:
            return rows, weight
        model, loads = self._before
        share = STAND_IN_WEIGHT * 0.5 ** (self._since / STAND_IN_HALF_LIFE) / len(loads)
        if share * len(loads) < 0.01:
            self._before = None
            return rows, weight
        factor = float(np.exp(np.median(np.log(rows[:, 2] / model.predict(rows[:, 0], rows[:, 1])))))
        made = np.column_stack([loads[:, :2], factor * model.predict(loads[:, 0], loads[:, 1])])
        return np.concatenate([rows, made]), np.concatenate([weight, np.full(len(made), share)])

    def _health(self) -> None:
        """Degraded (Mann-Whitney) or faster than ever; the reference learns only while neither."""
        config, reference = self.config, self.reference
        if self.seen < config.first:
            return
        if reference.model is None or not reference.batch_max:
            self._adopt()
            return
        if len(self._excess) < config.recent or len(reference.calm_means) < config.first:
            return
        recent, calm = np.array(self._excess), reference.usual()
        shift = float(np.median(recent) - np.median(calm))
        slower = shift > 0.5 * log1p(config.least_excess) and mann_whitney(recent, calm) < config.degraded_p
        self.degraded = slower
        if -shift > log1p(config.least_excess) and mann_whitney(-recent, -calm) < config.degraded_p:
            self.accept()
        elif not slower:
            reference.learn()

    def _adopt(self) -> None:
        """The first reference: what warming up has shown, or, on a warm start, the known model within that range; steps
        slower than it are then no part of the reference."""
        known, fresh = self.reference.model, Reference()
        for row in self._rows:
            fresh.keep(row)
        fresh.learn()
        if known is not None and fresh.model is not None:
            ratio = [log(ms / float(known.predict(b, s))) for b, s, ms in self._rows]
            fresh.model = known
            if float(np.median(ratio)) > log1p(self.config.least_excess):
                fresh.cells.clear()
        self.reference = fresh
