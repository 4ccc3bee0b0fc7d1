"""What etio itself costs, as curves: whether the watcher is the trouble is the first thing somebody asks at night.

Reads:  the daemon's own accounts (OwnCost.source), which it keeps for its budget anyway
Emits:  etio_cpu_cores, etio_memory_pss_bytes, etio_collector_cpu_cores{collector}
Needs:  -
Source: proc_pid_stat(5), proc_pid_smaps(5); clock_gettime(2), CLOCK_THREAD_CPUTIME_ID
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from collector.table import Column, Table, emits
from etio.core.errors import NoData
from etio.core.frame import Reading
from etio.core.ports import CollectorSpec
from etio.core.series import Series

CPU = Column("etio_cpu_cores", "cores", "gauge", "CPU time of etio's processes, over the last minute")
MEMORY = Column("etio_memory_pss_bytes", "bytes", "gauge", "proportional set size of etio's processes")
COLLECTOR_CPU = Column("etio_collector_cpu_cores", "cores", "gauge", "CPU time of one collector, over its last ten "
                       "readings or so", ("collector",))


@dataclass(frozen=True, slots=True)
class Account:
    """cpu_cores and memory_bytes of everything, NaN = not known yet; collectors: name to cores."""

    cpu_cores: float
    memory_bytes: float
    collectors: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Config:
    """No settings."""


class OwnCost:
    """The collector; `source` is set by the daemon."""

    def __init__(self, config: Config) -> None:
        self.source: Callable[[], Account] | None = None
        self._table = Table()

    def open(self, root: Path) -> None:
        """Raises NoData outside of the daemon."""
        if self.source is None:
            raise NoData("nothing runs here that could be measured")

    def collect(self, t_ns: int) -> Reading:
        """One reading. Raises NoData outside of the daemon."""
        if self.source is None:
            raise NoData("nothing runs here that could be measured")
        account = self.source()
        self._table.start()
        self._table.put(None, _whole, [account.cpu_cores, account.memory_bytes])
        for name, cores in account.collectors.items():
            self._table.put(name, partial(_of, name), [cores])
        return self._table.reading()

    def close(self) -> None:
        """May be called twice."""


def _whole() -> list[Series]:
    return [CPU.series(), MEMORY.series()]


def _of(name: str) -> list[Series]:
    return [COLLECTOR_CPU.series(name)]


COLLECTOR = CollectorSpec(
    name="own_cost", config=Config, build=OwnCost, reads="etio's own accounts",
    emits=emits((CPU, MEMORY, COLLECTOR_CPU)), source="clock_gettime(2)", period_s=5.0, optional=True,
)
