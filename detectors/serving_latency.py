"""Steps of inference servers against T(B, S): slower than this load explains, and not merely busier.

Each model of each server has an OnlineLatency (detectors/saturation_online.py), fed with the mean step of a tick, the
sequences in it and the tokens in the KV cache. A server seen for the first time starts from the nearest model known.
A tick with far more prompt tokens per step than usual is prompt work and no decode step; it is not judged.
"""

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import exp, isnan, nan
from typing import Any

import numpy as np

from detectors.columns import part
from detectors.saturation_known import Known
from detectors.saturation_online import OnlineLatency
from detectors.saturation_reference import Config as LatencyConfig
from detectors.serving_things import Thing, Things
from etio.core.errors import Broken, NoData
from etio.core.frame import Floats, Frame
from etio.core.ports import DetectorSpec
from etio.core.score import Band, Scores
from etio.core.series import Series
from etio.core.words import amount, figure

ALERT = "ServingSlow"
LARGEST = 100.0
HERE = ""
"""GPU type of the models known: those of this host are of one type, or told apart by their servers."""
PROMPTS, PROMPT_TIMES, PROMPT_FLOOR = 120, 2.0, 64.0
MOST_STEPS = 1024


@dataclass(frozen=True, slots=True)
class Config:
    """window: steps kept. first: steps before the first verdict. block: steps averaged in a score. false_alarm: chance
    that a healthy score alarms. least_excess: smallest slowdown told, as a ratio."""

    window: int = 512
    first: int = 120
    block: int = 8
    false_alarm: float = 1e-5
    least_excess: float = 0.15

    def __post_init__(self) -> None:
        self.latency()

    def latency(self) -> LatencyConfig:
        """The same for OnlineLatency. Raises ValueError."""
        return LatencyConfig(window=self.window, first=self.first, block=self.block, recent=min(20, self.first),
                             false_alarm=self.false_alarm, least_excess=self.least_excess)


@dataclass(slots=True)
class _State:
    online: OnlineLatency
    tokens: float = nan
    prompts: deque[float] = field(default_factory=lambda: deque(maxlen=PROMPTS))
    told: dict[str, float] = field(default_factory=dict)


class ServingLatency:
    """See the module. Memory: below 250 kB for each model of each server; 0.15 ms CPU for each step."""

    name = "serving_latency"

    def __init__(self, config: Config) -> None:
        self._config = config
        self._reset()

    def _reset(self) -> None:
        self._things = Things()
        self._states: dict[str, _State] = {}
        self._remembered: dict[str, Mapping[str, Any]] = {}
        self._known = Known()
        self._series: tuple[Series, ...] = ()
        self._last = Scores(self.name, (), np.empty(0))
        self._t_ns = 0

    def step(self, frame: Frame) -> Scores:
        """One score for each model of each server that tells the time of its steps; NaN while it learns or idles."""
        if self._t_ns and 0 <= self._t_ns - frame.t_ns < 10**9 * 3600:
            return self._last
        self._t_ns = frame.t_ns
        for thing in self._things.grow(frame.series):
            if thing.model:
                self._series += (Series(ALERT, "thresholds", labels=thing.labels),)
                self._states[thing.key] = self._begin(thing)
        values, notes = [], {}
        for at, thing in enumerate(self._things.models()):
            score = self._observe(thing, frame.values)
            values.append(score if isnan(score) else min(max(score, 0.0), LARGEST))
            if score >= 1.0:
                notes[at] = _note(self._states[thing.key].told)
        self._last = Scores(self.name, self._series, np.array(values, dtype=np.float64), notes)
        return self._last

    def _begin(self, thing: Thing) -> _State:
        online = OnlineLatency(self._config.latency(), self._known.start(thing.model, HERE))
        saved = self._remembered.pop(thing.key, None)
        if saved is not None:
            online.restore(saved)
        return _State(online)

    def _observe(self, thing: Thing, values: Floats) -> float:
        state = self._states[thing.key]
        row = self._row(thing, state, values)
        if row is None:
            return nan
        score = state.online.observe(*row)
        if state.online.seen % 10 == 0 and state.online.model is not None and not state.online.degraded:
            self._known.learn(thing.model, HERE, state.online.model)
        state.told = _told(state.online, row)
        return score

    def _row(self, thing: Thing, state: _State, values: Floats) -> tuple[float, float, float] | None:
        """(sequences, tokens, milliseconds) of the mean step of this tick; None where it is none to learn from."""
        before, state.tokens = state.tokens, thing.get(values, "kv_tokens")
        seconds, batch = thing.get(values, "step_seconds"), thing.get(values, "batch_size")
        tokens = 0.5 * (before + state.tokens)
        if not (seconds > 0 and tokens >= 1 and batch > 0 and max(seconds, tokens, batch) < 1e12):
            return None
        prompts = thing.get(values, "prompt_tokens_per_second") * seconds
        usual = float(np.median(state.prompts)) if state.prompts else nan
        if not isnan(prompts):
            state.prompts.append(prompts)
        if prompts > PROMPT_TIMES * usual + PROMPT_FLOOR:
            return None
        return max(batch, 1.0), max(tokens, 1.0), seconds * 1e3

    def facts(self) -> tuple[tuple[str, str], ...]:
        """What each step took and was expected to take, as pairs for Facts.extra: ("step time SERVER", JSON)."""
        told = []
        for thing in self._things.models():
            state = self._states[thing.key]
            if state.told:
                more = {"model": thing.model, "degraded": state.online.degraded, "steps": state.online.seen}
                told.append((f"step time {dict(thing.labels)['server']}", json.dumps({**state.told, **more})))
        return tuple(told)

    def steps(self) -> dict[tuple[str, str], Floats]:
        """(server, model) to float64[n, 3]: sequences, tokens, milliseconds of the steps that its model rests on."""
        found = {}
        for thing in self._things.models():
            rows = self._states[thing.key].online.steps()
            if len(rows):
                found[dict(thing.labels)["server"], thing.model] = rows[-MOST_STEPS:]
        return found

    def band(self) -> Band | None:
        """None: what is expected of a step is told with its alert."""
        return None

    def snapshot(self) -> Mapping[str, Any]:
        """Every model and the steps it rests on."""
        models = {key: s.online.snapshot() for key, s in self._states.items()}
        return {"t_ns": self._t_ns, "models": {**self._remembered, **models}, "known": self._known.snapshot()}

    def restore(self, state: Mapping[str, Any], series: tuple[Series, ...]) -> None:
        """Takes a snapshot back as the servers appear again. Raises Broken and starts afresh where it is none."""
        self._reset()
        part(state, "t_ns", int)
        models, known = state.get("models"), state.get("known")
        if set(state) != {"t_ns", "models", "known"} or not isinstance(models, Mapping):
            raise Broken("detector state: serving_latency: no table of models")
        for saved in models.values():
            OnlineLatency(self._config.latency()).restore(saved)
        if not isinstance(known, Mapping):
            raise Broken("detector state: serving_latency: no known models")
        self._known.restore(known)
        self._remembered = {str(k): v for k, v in models.items()}


def _told(online: OnlineLatency, row: tuple[float, float, float]) -> dict[str, float]:
    """Measured and expected of one step, with the range in which nineteen of twenty healthy ones lie."""
    reference = online.reference
    try:
        model = reference.model
        expected = online.predict(*row[:2]) if model is None else float(model.predict(*row[:2]))
    except NoData:
        return {}
    told = {"batch": row[0], "tokens": row[1], "ms": row[2], "expected_ms": expected}
    if len(reference.calm) >= 20:
        low, high = np.quantile(np.array(reference.calm), (0.025, 0.975))
        told |= {"low_ms": expected * exp(float(low)), "high_ms": expected * exp(float(high))}
    return told


def _note(told: Mapping[str, float]) -> str:
    if not told:
        return ""
    span = f" ({figure(told['low_ms'])} to {figure(told['high_ms'])})" if "low_ms" in told else ""
    return (f": a step takes {amount(told['ms'] / 1e3, 'seconds')} where this load explains "
            f"{figure(told['expected_ms'])}{span} ms: {figure(told['batch'])} sequences, {told['tokens']:,.0f} tokens")


DETECTOR = DetectorSpec(
    name="serving_latency",
    config=Config,
    build=ServingLatency,
    scope="rule",
    help="inference servers: a step is slower than its load explains (latency model T(B, S) of each server and model)",
)
