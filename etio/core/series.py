"""The identity of a series: what is measured, in which unit, of which thing."""

from dataclasses import dataclass
from typing import Literal

Labels = tuple[tuple[str, str], ...]
Kind = Literal["gauge", "counter", "mean"]
"""How a raw reading becomes a value: taken as it is, as growth per second, or as growth over growth of its weight."""


@dataclass(frozen=True, slots=True)
class Series:
    """One series.

    name: snake_case, subsystem first and unit last, such as ``disk_read_latency_seconds``. The name and the unit
        speak of the finished value (for a counter: the rate).
    unit: of the finished value: "ratio", "bytes", "bytes/s", "1/s", "seconds", "celsius", "watts", "1" ...
    kind: how the raw reading turns into the value; the rest of the program only ever sees finished values.
    labels: sorted (name, value) pairs that say which thing, such as (("device", "sda"),).
    """

    name: str
    unit: str
    kind: Kind = "gauge"
    labels: Labels = ()

    @property
    def key(self) -> str:
        """The series in Prometheus notation: ``name{label="value"}``; unique."""
        if not self.labels:
            return self.name
        return self.name + "{" + ",".join(f'{k}="{_escape(v)}"' for k, v in self.labels) + "}"

    @property
    def subsystem(self) -> str:
        """First word of the name: cpu, memory, disk, network ..."""
        return self.name.split("_", 1)[0]

    @property
    def entity(self) -> str:
        """Which thing the series speaks of, such as ``device=sda``; "host" where it has no label."""
        return ",".join(f"{k}={v}" for k, v in self.labels) or "host"

    def label(self, name: str) -> str | None:
        """Value of one label, or None."""
        return next((v for k, v in self.labels if k == name), None)


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def labels(**pairs: str) -> Labels:
    """Labels in canonical (sorted) order.

    >>> labels(mode="user", cpu="0")
    (('cpu', '0'), ('mode', 'user'))
    """
    return tuple(sorted(pairs.items()))
