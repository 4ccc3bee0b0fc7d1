"""Packets lost or put off between the network card and the protocols, before any socket.

Reads:  /proc/net/softnet_stat
Emits:  network_backlog_drops_per_second, network_time_squeezes_per_second, network_backlog_*, network_rps_*
Needs:  -
Source: Linux net/core/net-procfs.c, softnet_seq_show(): hexadecimal, one line per online CPU
"""

from dataclasses import dataclass

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
    sums = [0] * len(_FIELDS)
    width = len(_FIELDS)
    for line in data.splitlines():
        fields = line.split()
        width = min(width, sum(at < len(fields) for at in _FIELDS))
        try:
            if width < 3:
                raise ValueError("too few fields")
            for i, at in enumerate(_FIELDS[:width]):
                sums[i] += int(fields[at][:16], 16)
        except ValueError as error:
            # The sum without one CPU would look like counters going backwards, or like a quiet network.
            raise Broken(f"cannot read the line {line[:60]!r}") from error
    return [float(v) for v in sums[:width]] + [NAN] * (len(_FIELDS) - width)


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
    source="net/core/net-procfs.c",
)
