"""Reader of process.bcc.c: forks, execs, exits and failures.

Emits: process_forks_per_second (threads included), process_execs_per_second, process_exits_per_second,
process_failures_per_second (processes that ended with another status than 0, or by a fault of their own),
process_exec_repeats_per_second (programs whose starter had started the same program just before).
Actors: fork by process, where copies that fork on without executing a program count for their original (a fork bomb
is one actor); exec by command name (pid 0: many processes; ppid: parent of the last one); failure
by command name and parent (amount: how many of them ended by a signal; unit: how the last one ended).
"""

import signal
from collections.abc import Mapping
from typing import Any

from collector.ebpf.families import HEAVY_TABLE
from collector.ebpf.heavy import HeavyTable, text
from collector.ebpf.maps import MappedArray
from collector.ebpf.reader import Family, Values
from etio.core.facts import Actor
from etio.core.series import Series

MAX_PID, ENDED_BY = (1 << 22) - 1, 1 << 23


class Reader(Family):
    """See the module's docstring."""

    def __init__(self, mapped: MappedArray, entry: dict[str, Any], cpus: int) -> None:
        super().__init__(entry)
        self._forks, self._execs = HeavyTable(mapped, 0), HeavyTable(mapped, HEAVY_TABLE)
        self._failures = HeavyTable(mapped, 2 * HEAVY_TABLE)
        self._counts = mapped.view("<u8", 3 * HEAVY_TABLE, 5)
        names = ("process_forks_per_second", "process_execs_per_second", "process_exits_per_second",
                 "process_failures_per_second", "process_exec_repeats_per_second")
        self.series = [Series(name, "1/s", "counter") for name in names]

    def read(self) -> Values:
        """Values in the order of `series`."""
        return [float(n) for n in self._counts]

    def runs(self) -> Mapping[str, float]:
        """See Family."""
        names = ("sched_process_fork", "sched_process_exec", "sched_process_exit")
        return dict(zip(names, map(float, self._counts[:3]), strict=True))

    def actors(self) -> list[Actor]:
        """Processes that forked most, commands that were executed most."""
        forks = [Actor("fork", text(row["name"]), int(row["key"]), int(row["aux"]), float(row["count"]))
                 for row in self._forks.step()]
        execs = [Actor("exec", text(row["name"]), 0, int(row["aux"]), float(row["count"]))
                 for row in self._execs.step()]
        return forks + execs + [
            Actor("failure", text(row["name"]), 0, int(row["aux"]) & MAX_PID, float(row["count"]),
                  float(row["amount"]), how_it_ended(int(row["aux"])))
            for row in self._failures.step()]


def how_it_ended(aux: int) -> str:
    """The signal or the status that a failure ended with.

    >>> how_it_ended(7 << 24 | 1 << 23 | 4711), how_it_ended(127 << 24 | 1)
    ('SIGBUS', 'status 127')
    """
    number = aux >> 24
    if not aux & ENDED_BY:
        return f"status {number}"
    return signal.Signals(number).name if number in signal.valid_signals() else f"signal {number}"
