"""What the reader of every family has in common."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from etio.core.event import HostEvent
from etio.core.facts import Actor
from etio.core.series import Series

Values = list[float]


class Family:
    """Turns the map of one family into values. `series` only ever grows; read() gives one value for each."""

    def __init__(self, entry: dict[str, Any]) -> None:
        self.name = str(entry["name"])
        self.missing = tuple(str(one) for one in entry.get("missing", ()))
        self.series: list[Series] = []

    def read(self) -> Values:
        """Raw values in the order of `series`, which may have grown."""
        return []

    def grab(self) -> Callable[[], Values]:
        """Takes what the programs go on changing; what it returns makes the values, in the order of the grabs."""
        return partial(list, self.read())

    def actors(self) -> Sequence[Actor]:
        """Heavy hitters since the last call."""
        return ()

    def runs(self) -> Mapping[str, float]:
        """How often its programs have run so far, by its own counters; those that are not counted are left out."""
        return {}

    def events(self, t_ns: int) -> Sequence[HostEvent]:
        """What happened since the last call; t_ns: the wall clock now."""
        return ()


class LateFamily(Family):
    """One whose values are made of what grab() has taken."""

    @abstractmethod
    def grab(self) -> Callable[[], Values]:
        """See Family."""

    def read(self) -> Values:
        """See Family."""
        return self.grab()()


def symbols(entry: dict[str, Any], event: str) -> dict[int, str]:
    """Names of an event's symbolic numbers as the loader read them from tracefs."""
    return {int(number): str(name) for number, name in entry.get("symbols", {}).get(event, {}).items()}
