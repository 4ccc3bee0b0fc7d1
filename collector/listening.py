"""Accept queues of listening TCP sockets of this network namespace: how full the fullest are.

Reads:  NETLINK_SOCK_DIAG (listening sockets only: the kernel keeps them apart, so this costs the same on a busy host)
Emits:  listen_sockets, listen_queue_used_ratio_max, listen_queue_used_ratio{listener}
Needs:  -
Source: sock_diag(7), listen(2), tcp(7)

A listener gets a series of its own with the first connection that is seen waiting in its queue.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from collector.sockdiag import LISTEN, Found, SockDiag
from collector.sockets import fill
from collector.table import Column, Table, emits
from etio.core.errors import NoData
from etio.core.frame import Reading
from etio.core.ports import CollectorSpec
from etio.core.series import Series

SOCKETS = Column("listen_sockets", "1", "gauge", "TCP sockets that listen")
FULLEST = Column("listen_queue_used_ratio_max", "ratio", "gauge", "how full the fullest accept queue is")
QUEUE = Column("listen_queue_used_ratio", "ratio", "gauge", "how full the accept queue of one listener is; at 1 "
               "further connections are dropped", ("listener",))


@dataclass(frozen=True, slots=True)
class Config:
    """max_listeners: how many get a series of their own at most over the daemon's life."""

    max_listeners: int = 32

    def __post_init__(self) -> None:
        if self.max_listeners < 0:
            raise ValueError("max_listeners must be at least 0")


class Listening:
    """Collector of the accept queues."""

    def __init__(self, config: Config) -> None:
        self._most = config.max_listeners
        self._table = Table()
        self._known: set[str] = set()
        self._kernel: SockDiag | None = None

    def open(self, root: Path) -> None:
        """Raises NoData where the kernel cannot be asked, and for a recorded host."""
        if root != Path("/"):
            raise NoData("sockets: only of a live host")
        self._kernel = SockDiag()

    def collect(self, t_ns: int) -> Reading:
        """One reading. Raises NoData or Broken."""
        if self._kernel is None:
            raise NoData("not open")
        found, _ = self._kernel.dump(LISTEN)
        fills = fullest(found)
        self._table.start()
        self._table.put("host", _host_series, [float(len(found)), max(fills.values(), default=0.0)])
        for name, ratio in fills.items():
            if ratio > 0 and name not in self._known and len(self._known) < self._most:
                self._known.add(name)
            if name in self._known:
                self._table.put(name, partial(_queue_series, name), [ratio])
        return self._table.reading()

    def close(self) -> None:
        """May be called twice."""
        if self._kernel is not None:
            self._kernel.close()
            self._kernel = None


def fullest(found: list[Found]) -> dict[str, float]:
    """Address to fill level, 0..1; of several sockets on one address (SO_REUSEPORT) the fullest."""
    ratios: dict[str, float] = {}
    for one in found:
        name = one.local_text
        ratios[name] = max(ratios.get(name, 0.0), fill(one))
    return ratios


def _host_series() -> list[Series]:
    return [SOCKETS.series(), FULLEST.series()]


def _queue_series(name: str) -> list[Series]:
    return [QUEUE.series(name)]


COLLECTOR = CollectorSpec(
    name="listening", config=Config, build=Listening, reads="sock_diag: listening TCP sockets",
    emits=emits((SOCKETS, FULLEST, QUEUE)), source="sock_diag(7)", period_s=2.0, optional=True,
)
