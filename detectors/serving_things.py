"""Which series belong to which inference server and model, in whatever order they appear."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import nan

from etio.core.frame import Floats
from etio.core.series import Labels, Series

PREFIX = "inference_"
MOST = 64
"""Models of servers looked at, at most."""


@dataclass(slots=True)
class Thing:
    """One model of one server (or, without model, the server itself). places: series name to position."""

    labels: Labels
    places: dict[str, int] = field(default_factory=dict)

    def get(self, values: Floats, name: str) -> float:
        """Value of one of its series, NaN where it has none."""
        at = self.places.get(PREFIX + name)
        return float(values[at]) if at is not None else nan

    @property
    def key(self) -> str:
        """Its labels as one text, the same after a restart."""
        return "\0".join(f"{k}={v}" for k, v in self.labels)

    @property
    def model(self) -> str:
        """Name of the model."""
        return dict(self.labels).get("model", "")


class Things:
    """Grows with the catalogue."""

    def __init__(self) -> None:
        self.known: dict[Labels, Thing] = {}
        self.gpus: list[int] = []
        self._series = 0

    def grow(self, series: tuple[Series, ...]) -> list[Thing]:
        """Takes new series in; returns things not seen before."""
        fresh = []
        for at, one in enumerate(series[self._series:], self._series):
            if one.name == "gpu_utilization_ratio":
                self.gpus.append(at)
            if not one.name.startswith(PREFIX):
                continue
            thing = self.known.get(one.labels)
            if thing is None and len(self.known) < MOST:
                thing = self.known[one.labels] = Thing(one.labels)
                fresh.append(thing)
            if thing is not None:
                thing.places[one.name] = at
        self._series = max(self._series, len(series))
        return fresh

    def models(self) -> Iterable[Thing]:
        """Things with a model."""
        return (t for t in self.known.values() if t.model)
