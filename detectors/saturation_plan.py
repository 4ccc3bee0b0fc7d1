"""Questions to a latency model: how much fits under a latency target, where throughput peaks, how many servers.

Everything here is arithmetic on `LatencyModel.predict`; T never falls when S grows, so the frontier is a bisection.
Lengths are tokens per sequence in the KV cache: prompt and what has been generated so far, on average half the output.
"""

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import ArrayLike

from detectors.saturation import LatencyModel
from etio.core.errors import Broken, NoData
from etio.core.frame import Floats

MOST_TOKENS = 1e9
STEPS = 60


@dataclass(frozen=True, slots=True)
class Point:
    """An operating point: sequences, tokens in their KV caches together, milliseconds of a step, generated tokens per
    second (each step gives every sequence one)."""

    batch: int
    tokens: float
    step_ms: float
    tokens_per_second: float


@dataclass(frozen=True, slots=True)
class Capacity:
    """servers: how many replicas at `point` carry `demand` generated tokens per second with `headroom` (ratio) spare.
    used_ratio: share of their throughput at that point that the demand takes."""

    point: Point
    demand: float
    headroom: float
    servers: int
    used_ratio: float


def frontier(model: LatencyModel, target_ms: float, batch: ArrayLike) -> Floats:
    """float[k]: for each batch size the most tokens with T <= target_ms; NaN where even one token per sequence takes
    longer; MOST_TOKENS where no length reaches the target."""
    _positive(target_ms, "latency target")
    b = np.asarray(batch, dtype=float)
    low, high = np.log(b), np.full(b.shape, np.log(MOST_TOKENS))
    possible = model.predict(b, b) <= target_ms
    unbounded = model.predict(b, np.full(b.shape, MOST_TOKENS)) <= target_ms
    for _ in range(STEPS):
        middle = 0.5 * (low + high)
        fits = model.predict(b, np.exp(middle)) <= target_ms
        low, high = np.where(fits, middle, low), np.where(fits, high, middle)
    return np.where(possible, np.where(unbounded, MOST_TOKENS, np.exp(low)), np.nan)


def at(model: LatencyModel, batch: int, tokens: float) -> Point:
    """The model's answer for one load."""
    ms = float(model.predict(batch, tokens))
    return Point(batch, float(tokens), ms, 1000.0 * batch / ms)


def peak(model: LatencyModel, length: float, target_ms: float | None = None, most_batch: int = 256,
         most_tokens: float = np.inf) -> Point:
    """Where throughput is highest for sequences of `length` tokens.

    Of all batch sizes up to most_batch, with at most most_tokens in the KV cache and T <= target_ms, the one with the
    most tokens per second; of equals (within 0.1 %) the smallest, it answers faster. NoData: none meets the target.
    """
    _positive(length, "length")
    batch = np.arange(1, most_batch + 1)
    batch = batch[batch * length <= most_tokens]
    if target_ms is not None:
        _positive(target_ms, "latency target")
        batch = batch[model.predict(batch, batch * length) <= target_ms]
    if not len(batch):
        limit = "" if target_ms is None else f" within {target_ms:g} ms a step"
        raise NoData(f"capacity: no batch of sequences with {length:g} tokens fits{limit}")
    rate = batch / model.predict(batch, batch * length)
    best = int(batch[np.argmax(rate >= 0.999 * rate.max())])
    return at(model, best, best * length)


def capacity(point: Point, demand: float, headroom: float = 0.2) -> Capacity:
    """Replicas for `demand` tokens per second; headroom 0.2 keeps a fifth of each one's throughput spare.

    Raises Broken for a demand or a headroom that is none.
    """
    _positive(demand, "demand")
    if not 0.0 <= headroom < 1.0:
        raise Broken(f"capacity: headroom {headroom} is not in 0..1")
    servers = ceil(demand / (point.tokens_per_second * (1.0 - headroom)))
    return Capacity(point, demand, headroom, servers, demand / (servers * point.tokens_per_second))


def _positive(value: float, name: str) -> None:
    if not (np.isfinite(value) and value > 0):
        raise Broken(f"capacity: {name} {value} is not a positive number")
