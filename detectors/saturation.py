"""Inference latency T(B, S): how long one step of a server takes for B sequences with S tokens in their KV cache.

The model, in milliseconds, every coefficient >= 0 (`StepModel`):

    T(B, S) = max(1, S / knee) * (single / B + full * (1 - 1 / B))
              + per_sequence * B + per_token * S + per_length * S / B

- single, full: the floor of a step: reading the weights and launching the kernels, for one sequence and for a full
  batch. The share 1 - 1/B is how far a batch fills the machine: the seed's saturation 1 - exp(-k B) without its rate,
  which four batch sizes cannot identify. full > single: other kernels are taken from two sequences on. full < single:
  an engine that leaves the machine idle with one sequence (measured: llama.cpp, 45 % slower at B = 1 than at B = 16).
- per_sequence: arithmetic of one more sequence, prompt processing spread over its output included.
- per_token: one more token read from the KV cache: tokens over memory bandwidth.
- per_length: attention within one sequence cannot be shared out; the mean length S / B sets a critical path.
- knee: tokens that the KV cache holds. What does not fit waits for another round, and each round pays the floor again:
  S / knee rounds. Infinite where the data do not show it.

single = full, per_length = 0, knee = inf is the three-parameter model a + b B + c S, so the forms are nested; the fit
takes the larger only where held-out error asks for it (`detectors.saturation_fit`). T never falls when S grows, and
for B at a given length S / B it never falls when `monotone_in_batch`; the one way it can is full < single, above.

`SeedModel` is the saturation formula T = tau0 + (w0 + w1 S) / (Pmax (1 - e^(-kB B)) (1 - e^(-kS S))) + tauB B + tauS S.
Pmax stands only in w0 / Pmax and w1 / Pmax: whatever the data, the peak itself cannot be known from it, the two
ratios can. They are what is fitted and stored here, in ms and ms per token.

References
----------
Williams, S., Waterman, A., Patterson, D. (2009). Roofline: an insightful visual performance model for multicore
    architectures. Communications of the ACM 52(4), 65-76. https://doi.org/10.1145/1498765.1498785
Pope, R. et al. (2023). Efficiently scaling transformer inference. MLSys 2023. https://arxiv.org/abs/2211.05102
"""

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from etio.core.frame import Floats

FORMS = ("three_parameter", "saturating", "knee", "seed")
"""From the fewest parameters (3, 5, 6, 7) to the most."""


class LatencyModel(Protocol):
    """What every form answers. `form` is one of FORMS."""

    @property
    def form(self) -> str:
        """Name of the form, of FORMS."""

    def predict(self, batch: ArrayLike, tokens: ArrayLike) -> Floats:
        """Milliseconds of a step, of the shape that batch (sequences) and tokens (of the whole batch) broadcast to."""

    def scaled(self, factor: float) -> "LatencyModel":
        """The same machine, `factor` times as slow at every load."""


@dataclass(frozen=True, slots=True)
class StepModel:
    """Coefficients of the formula above: milliseconds, per sequence, per token, per token of mean length; knee in
    tokens."""

    form: str
    single_ms: float
    full_ms: float
    per_sequence_ms: float
    per_token_ms: float
    per_length_ms: float = 0.0
    knee_tokens: float = np.inf

    def predict(self, batch: ArrayLike, tokens: ArrayLike) -> Floats:
        """Milliseconds; batch and tokens must be > 0.

        >>> StepModel("three_parameter", 10.0, 10.0, 0.5, 0.001).predict(4, [0, 1000])
        array([12., 13.])
        """
        b, s = np.asarray(batch, float), np.asarray(tokens, float)
        share = 1.0 / b
        floor = self.full_ms + (self.single_ms - self.full_ms) * share
        if np.isfinite(self.knee_tokens):
            floor = floor * np.maximum(1.0, s / self.knee_tokens)
        return np.asarray(floor + self.per_sequence_ms * b + (self.per_token_ms + self.per_length_ms * share) * s)

    def scaled(self, factor: float) -> "StepModel":
        """All milliseconds times `factor`; the knee, a number of tokens, stays."""
        return replace(self, single_ms=self.single_ms * factor, full_ms=self.full_ms * factor,
                       per_sequence_ms=self.per_sequence_ms * factor, per_token_ms=self.per_token_ms * factor,
                       per_length_ms=self.per_length_ms * factor)

    @property
    def monotone_in_batch(self) -> bool:
        """Whether one more sequence of the same length can never make the step shorter."""
        return self.full_ms >= self.single_ms or self.single_ms - self.full_ms <= 2.0 * self.per_sequence_ms


@dataclass(frozen=True, slots=True)
class SeedModel:
    """The seed's formula. work0_ms = w0 / Pmax, work1_ms = w1 / Pmax per token; rates per sequence and per token."""

    fixed_ms: float
    work0_ms: float
    work1_ms: float
    per_sequence_ms: float
    per_token_ms: float
    batch_rate: float
    token_rate: float
    form: str = "seed"

    def predict(self, batch: ArrayLike, tokens: ArrayLike) -> Floats:
        """Milliseconds; batch and tokens must be > 0 (the formula is infinite at 0)."""
        b, s = np.asarray(batch, float), np.asarray(tokens, float)
        throughput = np.expm1(-self.batch_rate * b) * np.expm1(-self.token_rate * s)
        work = (self.work0_ms + self.work1_ms * s) / throughput
        return np.asarray(self.fixed_ms + work + self.per_sequence_ms * b + self.per_token_ms * s)

    def scaled(self, factor: float) -> "SeedModel":
        """All milliseconds times `factor`; the rates stay."""
        return replace(self, fixed_ms=self.fixed_ms * factor, work0_ms=self.work0_ms * factor,
                       work1_ms=self.work1_ms * factor, per_sequence_ms=self.per_sequence_ms * factor,
                       per_token_ms=self.per_token_ms * factor)


def to_plain(model: LatencyModel) -> dict[str, Any]:
    """The parameters for JSON and snapshots; an infinite knee is null."""
    names = [name for name in model.__dataclass_fields__]  # type: ignore[attr-defined]
    values = {name: getattr(model, name) for name in names}
    return {name: None if isinstance(v, float) and np.isinf(v) else v for name, v in values.items()}


def from_plain(data: dict[str, Any]) -> LatencyModel:
    """The inverse of `to_plain`."""
    if data["form"] == "seed":
        return SeedModel(**data)
    return StepModel(**{**data, "knee_tokens": np.inf if data["knee_tokens"] is None else data["knee_tokens"]})
