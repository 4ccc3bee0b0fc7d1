"""Time that runnable tasks waited for a CPU, summed over all CPUs.

Reads:  /proc/schedstat
Emits:  cpu_run_delay_seconds_per_second
Needs:  CONFIG_SCHEDSTATS (the sysctl kernel.sched_schedstats may stay off)
Source: Documentation/scheduler/sched-stats.rst: per CPU nine numbers, the eighth is run_delay in nanoseconds
        (versions 14 to 17 of the file agree on that line)

The file grows with CPUs times scheduling domains, hence a collector of its own that can be slower, or shed.
"""

from dataclasses import dataclass

from collector.onefile import OneFile
from collector.table import Column, emits, whole_lines
from etio.core.errors import Broken, NoData
from etio.core.ports import CollectorSpec

NANOSECOND = 1e-9
OLDEST, NEWEST = 14, 17
COLUMNS = (
    Column("cpu_run_delay_seconds_per_second", "seconds/s", "counter",
           "time runnable tasks waited for a CPU, all CPUs"),
)


def parse_schedstat(data: bytes) -> list[float]:
    """[run delay in seconds, cumulative].

    Raises NoData (empty) or Broken (unknown version, a CPU line it cannot read).
    """
    if not data:
        raise NoData("empty")
    if not data.endswith(b"\n"):
        raise Broken("cut off in the middle of a line")
    lines = whole_lines(data)
    _check_version(lines[0].split())
    delay, cpus = 0.0, 0
    for line in lines:
        if not line.startswith(b"cpu"):
            continue
        try:
            delay += float(line.split(None, 9)[8])
        except (ValueError, IndexError) as error:
            # The sum without one CPU would look like a counter that went backwards.
            raise Broken(f"cannot read the line {line[:60]!r}") from error
        cpus += 1
    if not cpus:
        raise Broken("no line of a CPU")
    return [delay * NANOSECOND]


def _check_version(head: list[bytes]) -> None:
    known = len(head) == 2 and head[0] == b"version" and head[1].isdigit() and len(head[1]) < 4
    if not known or not OLDEST <= int(head[1]) <= NEWEST:
        raise Broken(f"version {b' '.join(head)[:40]!r} is none of {OLDEST} to {NEWEST}")


@dataclass(frozen=True, slots=True)
class Config:
    """No settings."""


class Schedstat(OneFile):
    """Collector of /proc/schedstat."""

    path = "proc/schedstat"
    columns = COLUMNS
    sums_lines = True

    @staticmethod
    def parse(data: bytes) -> list[float]:
        """See parse_schedstat()."""
        return parse_schedstat(data)


COLLECTOR = CollectorSpec(
    name="schedstat", config=Config, build=Schedstat, reads="/proc/schedstat", emits=emits(COLUMNS),
    needs="CONFIG_SCHEDSTATS", source="Documentation/scheduler/sched-stats.rst", period_s=2.0, optional=True,
)
