"""Serving regressions: what the users of an inference server suffer from, each told with the numbers that say so.

- KvCacheFull: no room for the tokens of those being served: sequences are thrown out (preempted) or nobody gets in.
- ServingQueueLong: a queue that does not drain; a burst that does is none.
- ServingLatencyHigh: the median request takes longer than the target and than half more than is usual here.
- ServingThroughputLow: fewer tokens a second than at the same load before: the same sequences, tokens in the KV cache
  and prompt tokens a second, compared with like moments only.
- ServingGpuIdle: requests wait while even the busiest GPU of the host has time left.
- ServingDown: a server that had answered does not answer, or ended in the middle of its work.

Silent until it has seen enough: latency and throughput are compared with this server's own past.

References
----------
Targets (throughput -15 %, median 4 s, GPU 75 %) are those of a guide to vLLM in production; see docs/inference.md.
vLLM documentation, configuration/optimization (preemption).
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite, isnan, nan
from typing import Any

import numpy as np

from detectors.columns import part
from detectors.serving_regression import Likes
from detectors.serving_things import Thing, Things
from etio.core.errors import Broken
from etio.core.frame import Floats, Frame
from etio.core.ports import DetectorSpec
from etio.core.score import Band, Scores
from etio.core.series import Series
from etio.core.words import amount, figure

LARGEST = 100.0
QUEUE, BRIEF = 15, 5
MINUTE = 60
USUAL = 240
"""Minutes of usual latency that are remembered."""
ALERTS = ("KvCacheFull", "ServingQueueLong", "ServingLatencyHigh", "ServingThroughputLow", "ServingGpuIdle")


@dataclass(frozen=True, slots=True)
class Config:
    """kv_used_ratio, preemptions_per_second: KV cache full (with preemptions or waiting requests), or thrashing.
    queue_requests, queue_per_running: a long queue. latency_seconds: target of the median request; latency_factor:
    times the usual one. throughput_drop_ratio: at unchanged load. gpu_used_ratio: below it a GPU has time left.
    warm_minutes: of requests, before latency is judged."""

    kv_used_ratio: float = 0.95
    preemptions_per_second: float = 0.5
    queue_requests: float = 8.0
    queue_per_running: float = 0.5
    latency_seconds: float = 4.0
    latency_factor: float = 1.5
    throughput_drop_ratio: float = 0.15
    gpu_used_ratio: float = 0.75
    warm_minutes: int = 15

    def __post_init__(self) -> None:
        bad = [name for name in self.__slots__ if not getattr(self, name) > 0]
        if bad:
            raise ValueError(f"{', '.join(bad)}: must be positive")


@dataclass(slots=True)
class _State:
    """What is remembered of one model of one server."""

    likes: Likes
    waiting: deque[float] = field(default_factory=lambda: deque(maxlen=QUEUE))
    used: deque[float] = field(default_factory=lambda: deque(maxlen=3))
    gpu: deque[float] = field(default_factory=lambda: deque(maxlen=QUEUE))
    minute: list[float] = field(default_factory=list)
    usual: deque[float] = field(default_factory=lambda: deque(maxlen=USUAL))


class Serving:
    """See the module. Memory: about 20 kB for each model of each server."""

    name = "serving"

    def __init__(self, config: Config) -> None:
        self._config = config
        self._reset()

    def _reset(self) -> None:
        self._things = Things()
        self._states: dict[str, _State] = {}
        self._remembered: dict[str, Mapping[str, Any]] = {}
        self._series: tuple[Series, ...] = ()
        self._last = Scores(self.name, (), np.empty(0))
        self._t_ns = 0

    def step(self, frame: Frame) -> Scores:
        """Scores of each alert for each model of each server, and of ServingDown for each server."""
        if self._t_ns and 0 <= self._t_ns - frame.t_ns < 10**9 * 3600:
            return self._last  # a frame given again, or a clock that was put back a little
        self._t_ns = frame.t_ns
        for thing in self._things.grow(frame.series):
            names = ALERTS if thing.model else ("ServingDown",)
            self._series += tuple(Series(name, "thresholds", labels=thing.labels) for name in names)
            self._adopt(thing)
        values: list[float] = []
        notes: dict[int, str] = {}
        for thing in self._things.known.values():
            for score, note in self._judge(thing, frame.values) if thing.model else [_down(thing, frame.values)]:
                if score >= 1.0 and note:
                    notes[len(values)] = note
                values.append(score if isnan(score) else min(max(score, 0.0), LARGEST))
        self._last = Scores(self.name, self._series, np.array(values, dtype=np.float64), notes)
        return self._last

    def _adopt(self, thing: Thing) -> None:
        state = self._states[thing.key] = _State(Likes(self._config.throughput_drop_ratio))
        saved = self._remembered.pop(thing.key, None)
        if saved is not None:
            state.usual.extend(saved["usual"])
            state.likes.restore(saved["likes"])

    def _judge(self, thing: Thing, values: Floats) -> list[tuple[float, str]]:
        state = self._states[thing.key]
        get = {name: thing.get(values, name) for name in (
            "running_requests", "waiting_requests", "kv_cache_used_ratio", "preemptions_per_second", "kv_tokens",
            "prompt_tokens_per_second", "generated_tokens_per_second", "e2e_latency_p50_seconds")}
        state.waiting.append(get["waiting_requests"])
        state.used.append(get["kv_cache_used_ratio"])
        gpus = values[self._things.gpus]
        state.gpu.append(float(np.nanmax(gpus)) if np.isfinite(gpus).any() else nan)
        return [self._kv(state, get), self._queue(state, get), self._latency(state, get), state.likes.step(get),
                self._gpu(state, get)]

    def _kv(self, state: _State, get: Mapping[str, float]) -> tuple[float, str]:
        used, out, waiting = _largest(state.used), get["preemptions_per_second"], get["waiting_requests"]
        if isnan(used) and isnan(out):
            return nan, ""
        config = self._config
        held = max(_zero(out) / (0.2 * config.preemptions_per_second), _zero(waiting))
        score = max(min(_zero(used) / config.kv_used_ratio, held), _zero(out) / config.preemptions_per_second)
        note = f": {amount(used, 'ratio')} of it in use, {figure(_zero(waiting))} requests wait"
        return score, note + (f", {figure(out)} sequences thrown out each second" if _zero(out) > 0 else "")

    def _queue(self, state: _State, get: Mapping[str, float]) -> tuple[float, str]:
        waiting = np.array(state.waiting)
        if isnan(get["waiting_requests"]) or np.isfinite(waiting).sum() < QUEUE:
            return nan, ""
        config, lasting = self._config, float(np.median(waiting))
        long = max(config.queue_requests, config.queue_per_running * _zero(get["running_requests"]))
        drains = waiting[-BRIEF:].mean() < 0.8 * waiting[:BRIEF].mean()
        note = f": {figure(lasting)} requests wait while {figure(_zero(get['running_requests']))} are served"
        return min(lasting / long, 0.9 if drains else LARGEST), note

    def _latency(self, state: _State, get: Mapping[str, float]) -> tuple[float, str]:
        now, config = get["e2e_latency_p50_seconds"], self._config
        if isnan(now):
            return nan, ""
        state.minute.append(now)
        known = len(state.usual) >= config.warm_minutes
        usual = float(np.median(state.usual)) if known else nan
        score = now / max(config.latency_seconds, config.latency_factor * usual) if known else nan
        if len(state.minute) >= MINUTE:
            if not score >= 1.0:
                state.usual.append(float(np.median(state.minute)))
            state.minute.clear()
        took, often, target = (amount(v, "seconds") for v in (now, usual, config.latency_seconds))
        return score, f": the median request takes {took} where {often} are usual; the target is {target}"

    def _gpu(self, state: _State, get: Mapping[str, float]) -> tuple[float, str]:
        gpu, waiting = np.array(state.gpu), np.array(state.waiting)
        if len(gpu) < QUEUE or not (np.isfinite(gpu).all() and np.isfinite(waiting).all()):
            return nan, ""
        used, queue = float(gpu.mean()), float(np.median(waiting))
        note = f": {figure(queue)} requests wait and the busiest GPU is in use {amount(used, 'ratio')} of the time"
        return min(self._config.gpu_used_ratio / max(used, 0.01), queue), note

    def band(self) -> Band | None:
        """None: these are limits, not expectations of a series."""
        return None

    def snapshot(self) -> Mapping[str, Any]:
        """Usual latencies and like moments of each model of each server."""
        kept = {key: {"usual": np.array(s.usual), "likes": s.likes.snapshot()} for key, s in self._states.items()}
        return {"t_ns": self._t_ns, "models": {**self._remembered, **kept}}

    def restore(self, state: Mapping[str, Any], series: tuple[Series, ...]) -> None:
        """Takes a snapshot back as the servers appear again. Raises Broken and starts afresh where it is none."""
        self._reset()
        part(state, "t_ns", int)
        models = state.get("models")
        if set(state) != {"t_ns", "models"} or not isinstance(models, Mapping):
            raise Broken("detector state: serving: no table of models")
        try:
            for key, saved in models.items():
                usual = [float(v) for v in saved["usual"]]
                Likes(self._config.throughput_drop_ratio).restore(saved["likes"])
                if not all(isfinite(v) for v in usual):
                    raise ValueError("usual latencies must be finite")
                self._remembered[str(key)] = {"usual": usual[-USUAL:], "likes": saved["likes"]}
        except (KeyError, TypeError, ValueError) as error:
            self._reset()
            raise Broken(f"detector state: serving: {error!r}") from error


def _down(thing: Thing, values: Floats) -> tuple[float, str]:
    up = thing.get(values, "server_up")
    return (nan, "") if isnan(up) else (2.0 if up < 0.5 else 0.0, "")


def _zero(value: float) -> float:
    return 0.0 if isnan(value) else value


def _largest(values: deque[float]) -> float:
    known = [v for v in values if not isnan(v)]
    return max(known) if known and not isnan(values[-1]) else nan


DETECTOR = DetectorSpec(
    name="serving",
    config=Config,
    build=Serving,
    scope="rule",
    help="inference servers: KV cache full, queues, latency, throughput at unchanged load, idle GPUs, down",
)
