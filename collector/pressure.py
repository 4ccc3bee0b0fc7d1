"""Pressure stall information: the share of time in which work waited for CPU, memory or I/O.

Reads:  /proc/pressure/{cpu,memory,io,irq}
Emits:  pressure_<resource>_<some|full>_ratio
Needs:  CONFIG_PSI and not psi=0 (some distributions want psi=1 on the kernel command line); irq: Linux >= 6.1
Source: Documentation/accounting/psi.rst: `some avg10=0.12 avg60=0.02 avg300=0.00 total=4711`, total in microseconds
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import isnan
from pathlib import Path

from collector.files import Sources, Text
from collector.late import LateCollector
from collector.table import NAN, Column, Fixed, emits, value_after
from etio.core.errors import Broken, NoData
from etio.core.frame import Reading
from etio.core.ports import CollectorSpec

MICROSECOND = 1e-6
REMEDY = "pressure stall information is off: boot with psi=1, or a kernel >= 4.20 with CONFIG_PSI"


def _ratio(resource: str, kind: str) -> Column:
    who = "some task" if kind == "some" else "every task that could run"
    return Column(f"pressure_{resource}_{kind}_ratio", "ratio", "counter", f"share of time {who} waited for {resource}")


PATHS = tuple(f"proc/pressure/{r}" for r in ("cpu", "memory", "io", "irq"))
COLUMNS = (
    _ratio("cpu", "some"), _ratio("memory", "some"), _ratio("memory", "full"),
    _ratio("io", "some"), _ratio("io", "full"), _ratio("irq", "full"),
)
_NONE = (NAN, NAN)


def parse_pressure(data: bytes) -> tuple[float, float]:
    """(some, full): cumulative stall time in seconds, NaN where there is no such line.

    Raises NoData (empty file) or Broken (neither line).
    """
    if not data:
        raise NoData("empty")
    some, full = _total(data, b"some "), _total(data, b"full ")
    if isnan(some) and isnan(full):
        raise Broken("neither 'some' nor 'full' with a total")
    return some, full


def _total(data: bytes, kind: bytes) -> float:
    for line in data.splitlines(keepends=True):
        if line.startswith(kind):
            return value_after(line, b" total=") * MICROSECOND
    return NAN


@dataclass(frozen=True, slots=True)
class Config:
    """No settings."""


class Pressure(LateCollector):
    """Collector of /proc/pressure."""

    def __init__(self, config: Config) -> None:
        self._fixed = Fixed([c.series() for c in COLUMNS])
        self._sources: Sources | None = None

    def open(self, root: Path) -> None:
        """Raises NoData (PSI is off) or Broken."""
        try:
            self._sources = Sources("pressure", root, PATHS)
        except NoData as error:
            raise NoData(f"{error}; {REMEDY}") from error

    def grab(self, t_ns: int) -> Callable[[], Reading]:
        """See etio.core.ports.Deferring."""
        if self._sources is None:
            raise NoData("not open")
        return partial(self._made, t_ns, self._sources, [self._sources.read(i) for i in range(len(PATHS))])

    def _made(self, t_ns: int, sources: Sources, texts: list[Text]) -> Reading:
        cpu, memory, io, irq = (sources.made(i, text, parse_pressure) or _NONE for i, text in enumerate(texts))
        events = sources.events(t_ns)
        return self._fixed.reading([cpu[0], *memory, *io, irq[1]], None, events)

    def close(self) -> None:
        """May be called twice."""
        if self._sources is not None:
            self._sources.close()


COLLECTOR = CollectorSpec(
    name="pressure", config=Config, build=Pressure, reads="/proc/pressure/*", emits=emits(COLUMNS),
    needs="CONFIG_PSI", source="Documentation/accounting/psi.rst",
)
