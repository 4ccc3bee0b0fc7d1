"""Latency models learned so far, per (model name, GPU type), and the nearest one for a newcomer to start from."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import log2
from typing import Any

from detectors.saturation import LatencyModel, from_plain, to_plain
from etio.core.errors import Broken

OTHER_GPU = 1.0
OTHER_NAME = 0.25
UNKNOWN_SIZE = 1.0
SIZE = re.compile(r"(?:(\d+)x)?(\d+(?:\.\d+)?)b(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Start:
    """A model to begin with. exact: learned from this very (model, GPU); else from `origin`, its level unsure."""

    model: LatencyModel
    exact: bool
    origin: tuple[str, str]


class Known:
    """At most `most` models, the longest unused forgotten."""

    def __init__(self, most: int = 64) -> None:
        self._most = most
        self._models: dict[tuple[str, str], LatencyModel] = {}

    def __len__(self) -> int:
        return len(self._models)

    def learn(self, model_name: str, gpu: str, model: LatencyModel) -> None:
        """Keeps the newest model of this pair."""
        self._models.pop((model_name, gpu), None)
        self._models[model_name, gpu] = model
        while len(self._models) > self._most:
            self._models.pop(next(iter(self._models)))

    def start(self, model_name: str, gpu: str) -> Start | None:
        """The model of this pair or of the nearest one; None when nothing is known.

        Distance: 1 for another GPU type, 1 per doubling of the number of weights in the name, 1/4 for another name.
        On the same GPU the nearest is scaled by the ratio of weights, as a step reads all of them; between GPU types
        it is not scaled: the first observations set the level.
        """
        exact = self._models.get((model_name, gpu))
        if exact is not None:
            return Start(exact, True, (model_name, gpu))
        if not self._models:
            return None
        origin = min(self._models, key=lambda pair: distance((model_name, gpu), pair))
        sizes = weights(model_name), weights(origin[0])
        factor = sizes[0] / sizes[1] if origin[1] == gpu and sizes[0] and sizes[1] else 1.0
        return Start(self._models[origin].scaled(factor), False, origin)

    def snapshot(self) -> dict[str, Any]:
        """Plain values for a state file."""
        return {"known": [[*pair, to_plain(model)] for pair, model in self._models.items()]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes a snapshot back. Raises Broken and stays as it was when it is none."""
        try:
            models = {(str(name), str(gpu)): from_plain(plain) for name, gpu, plain in state["known"]}
        except (KeyError, TypeError, ValueError) as error:
            raise Broken(f"latency models: not a snapshot: {error!r}") from error
        self._models = models


def distance(one: tuple[str, str], other: tuple[str, str]) -> float:
    """How unlike two (model name, GPU type) are; 0 for the same."""
    sizes = weights(one[0]), weights(other[0])
    by_size = abs(log2(sizes[0] / sizes[1])) if sizes[0] and sizes[1] else UNKNOWN_SIZE
    same = one[0] == other[0]
    return OTHER_GPU * (one[1] != other[1]) + (0.0 if same else OTHER_NAME + by_size)


def weights(name: str) -> float:
    """Billions of weights as the name says; 0.0 where it does not.

    >>> weights("meta-llama/Llama-2-70b-hf"), weights("Mixtral-8x7B-v0.1"), weights("gpt2")
    (70.0, 56.0, 0.0)
    """
    found = SIZE.findall(name)
    return float(found[-1][0] or 1) * float(found[-1][1]) if found else 0.0
