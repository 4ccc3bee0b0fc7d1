"""Packets lost or put off between the network card and the protocols, before any socket.

Reads:  /proc/net/softnet_stat
Emits:  network_backlog_drops_per_second, network_time_squeezes_per_second, network_backlog_*, network_rps_*
Needs:  -
Source: Linux net/core/net-procfs.c, softnet_seq_show(): hexadecimal, one line per online CPU
"""

from dataclasses import dataclass

import numpy as np

from collector.onefile import OneFile
from collector.table import NAN, Column, emits
from etio.core.errors import Broken, NoData
from etio.core.ports import CollectorSpec

COLUMNS = (
    Column("network_backlog_drops_per_second", "1/s", "counter",
           "packets dropped because a CPU's backlog queue was full (net.core.netdev_max_backlog)"),
    Column("network_time_squeezes_per_second", "1/s", "counter",
           "receive rounds that ended with work left (net.core.netdev_budget, netdev_budget_usecs)"),
    Column("network_backlog_packets_per_second", "1/s", "counter", "packets that went through the backlog queues"),
    Column("network_rps_wakeups_per_second", "1/s", "counter", "CPUs woken up to take packets over (rps_cpus)"),
    Column("network_flow_limit_drops_per_second", "1/s", "counter", "packets of one greedy flow dropped "
           "(net.core.flow_limit_cpu_bitmap)"),
    Column("network_backlog_queue_packets", "1", "gauge", "packets waiting in the backlog queues, all CPUs"),
)
_FIELDS = (1, 2, 0, 9, 10, 11)
"""Where these stand in a line; the last three came one after the other, so older kernels have fewer."""


def parse_softnet(data: bytes) -> list[float]:
    """Cumulative, in the order of COLUMNS, summed over CPUs; NaN for what this kernel does not count.

    Raises NoData (empty) or Broken (a line it cannot read).
    """
    if not data:
        raise NoData("empty")
    if not data.endswith(b"\n"):
        raise Broken("cut off in the middle of a line")
    sums = _sums_at_once(data)
    if sums is None:
        sums = _sums_by_line(data)
    return sums + [NAN] * (len(_FIELDS) - len(sums))


def _sums_at_once(data: bytes) -> list[float] | None:
    """Where every number has its eight digits, as the kernel prints them, all are converted together; else None."""
    words = (data.find(b"\n") + 1) // 9
    if words < 3 or len(data) % (9 * words) or data[8::9].strip():
        return None
    try:
        table = np.frombuffer(bytes.fromhex(data.decode("ascii")), dtype=">u4").reshape(-1, words)
    except ValueError:
        return None
    if len(table) != data.count(b"\n"):
        return None
    sums: list[float] = table[:, [at for at in _FIELDS if at < words]].sum(axis=0, dtype=np.float64).tolist()
    return sums


def _sums_by_line(data: bytes) -> list[float]:
    rows = []
    for line in data.splitlines():
        try:
            row = [float(int(word[:16], 16)) for word in line.split()]
        except ValueError as error:
            # The sum without one CPU would look like counters going backwards, or like a quiet network.
            raise Broken(f"cannot read the line {line[:60]!r}") from error
        if len(row) < 3:
            raise Broken(f"cannot read the line {line[:60]!r}")
        rows.append(row)
    shortest = min(map(len, rows))
    return [sum(row[at] for row in rows) for at in _FIELDS if at < shortest]


@dataclass(frozen=True, slots=True)
class Config:
    """No settings."""


class Softnet(OneFile):
    """Collector of /proc/net/softnet_stat."""

    path = "proc/net/softnet_stat"
    columns = COLUMNS
    sums_lines = True

    @staticmethod
    def parse(data: bytes) -> list[float]:
        """See parse_softnet()."""
        return parse_softnet(data)


COLLECTOR = CollectorSpec(
    name="softnet", config=Config, build=Softnet, reads="/proc/net/softnet_stat", emits=emits(COLUMNS),
    source="net/core/net-procfs.c", period_s=2.0,
)
