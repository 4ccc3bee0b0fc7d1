"""Reader of lock.bcc.c: waits for locks inside the kernel. Off by default; ebpf_on_demand = ["lock"] switches it on.

Emits, with {kind=spinlock|rwlock|mutex|rwsem|percpu_rwsem|rtmutex|semaphore}: lock_waits_per_second (every wait),
lock_wait_seconds_per_second (estimated: one wait in 8 is timed). A kind appears with its first wait.
Actors: lock_wait by process and kind of lock (device: the kind).
Needs: tracepoints lock:contention_begin and lock:contention_end, since Linux 5.19.
Source: include/trace/events/lock.h
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from collector.ebpf.families import HEAVY_TABLE, LOCK_CPU_BYTES, LOCK_KINDS
from collector.ebpf.heavy import HeavyTable, text
from collector.ebpf.maps import MappedArray
from collector.ebpf.reader import Family, Values
from etio.core.facts import Actor
from etio.core.ports import Emits
from etio.core.series import Series, labels

EMITS = (
    Emits("lock_waits_per_second", "1/s", ("kind",), "waits for locks of the kernel (on demand)"),
    Emits("lock_wait_seconds_per_second", "seconds/s", ("kind",), "time waited for them, all tasks (on demand)"),
)
_SPIN, _READ, _WRITE, _RT, _PERCPU, _MUTEX = (1 << i for i in range(6))
_HEAD = 8


class Reader(Family):
    """See the module's docstring."""

    def __init__(self, mapped: MappedArray, entry: dict[str, Any], cpus: int) -> None:
        super().__init__(entry)
        words = LOCK_CPU_BYTES // 8
        self._cpus = mapped.view("<u8", HEAVY_TABLE, cpus * words).reshape(cpus, words)
        self._waiters = HeavyTable(mapped, 0)
        self._shown: list[str] = []

    def read(self) -> Values:
        """Values in the order of `series`."""
        sums = self._cpus.sum(axis=0)
        waits, wait_ns = sums[_HEAD:_HEAD + LOCK_KINDS], sums[_HEAD + LOCK_KINDS:]
        totals: dict[str, list[float]] = {}
        for flags in np.flatnonzero(waits).tolist():
            total = totals.setdefault(kind_of(flags), [0.0, 0.0])
            total[0] += float(waits[flags])
            total[1] += float(wait_ns[flags]) / 1e9
        for kind in totals:
            if kind not in self._shown:
                self._shown.append(kind)
                self.series += [Series("lock_waits_per_second", "1/s", "counter", labels(kind=kind)),
                                Series("lock_wait_seconds_per_second", "seconds/s", "counter", labels(kind=kind))]
        return [value for kind in self._shown for value in totals[kind]]

    def runs(self) -> Mapping[str, float]:
        """See Family."""
        waits = float(self._cpus[:, _HEAD:_HEAD + LOCK_KINDS].sum())
        return {"contention_begin": waits, "contention_end": waits}

    def actors(self) -> list[Actor]:
        """Processes that waited longest, for each kind of lock."""
        return [Actor("lock_wait", text(row["name"]), int(row["key"] - 1) >> 6, count=float(row["count"]),
                      amount=float(row["amount"]) / 1e9, unit="seconds", device=kind_of(int(row["key"] - 1) & 63))
                for row in self._waiters.step()]


def kind_of(flags: int) -> str:
    """The kind of lock behind the flags of a wait (LCB_F_* of the kernel).

    >>> kind_of(1), kind_of(2), kind_of(5), kind_of(33), kind_of(0)
    ('spinlock', 'rwsem', 'rwlock', 'mutex', 'semaphore')
    """
    for bit, name in ((_MUTEX, "mutex"), (_PERCPU, "percpu_rwsem"), (_RT, "rtmutex")):
        if flags & bit:
            return name
    if flags & (_READ | _WRITE):
        return "rwlock" if flags & _SPIN else "rwsem"
    return "spinlock" if flags & _SPIN else "semaphore"
