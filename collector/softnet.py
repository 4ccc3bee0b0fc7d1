"""Packets lost or put off between the network card and the protocols, before any socket.

Reads:  /proc/net/softnet_stat
Emits:  network_backlog_drops_per_second, network_time_squeezes_per_second
Needs:  -
Source: Linux net/core/net-procfs.c, softnet_seq_show(): hexadecimal, one line per online CPU
"""

from dataclasses import dataclass

from collector.onefile import OneFile
from collector.table import Column, emits
from etio.core.errors import Broken, NoData
from etio.core.ports import CollectorSpec

COLUMNS = (
    Column("network_backlog_drops_per_second", "1/s", "counter",
           "packets dropped because a CPU's backlog queue was full (net.core.netdev_max_backlog)"),
    Column("network_time_squeezes_per_second", "1/s", "counter",
           "receive rounds that ended with work left (net.core.netdev_budget, netdev_budget_usecs)"),
)


def parse_softnet(data: bytes) -> list[float]:
    """[dropped, squeezed], cumulative, summed over CPUs. Raises NoData (empty) or Broken (a line it cannot read)."""
    dropped = squeezed = 0.0
    lines = data.splitlines()
    if not lines:
        raise NoData("empty")
    if not data.endswith(b"\n"):
        raise Broken("cut off in the middle of a line")
    for line in lines:
        fields = line.split(None, 3)
        try:
            dropped += float(int(fields[1], 16))
            squeezed += float(int(fields[2], 16))
        except (ValueError, IndexError, OverflowError) as error:
            # The sum without one CPU would look like counters going backwards, or like a quiet network.
            raise Broken(f"cannot read the line {line[:60]!r}") from error
    return [dropped, squeezed]


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
