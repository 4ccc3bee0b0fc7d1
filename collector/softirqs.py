"""Soft interrupts: how much of which kind, and on which CPU.

Reads:  /proc/softirqs
Emits:  softirq_<vector>_per_second, softirq_events_per_second{cpu}
Needs:  -
Source: Linux fs/proc/softirqs.c: a column for each possible CPU, a line for each vector
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from collector.keyed import Item, Keyed, KeyedFile, array
from collector.table import Column, emits, text
from etio.core.errors import Broken, NoData
from etio.core.ports import CollectorSpec
from etio.core.series import Series

VECTOR = Column("softirq_*_per_second", "1/s", "counter", "soft interrupts of one vector (net_rx, timer ...), all CPUs")
CORE = Column("softirq_events_per_second", "1/s", "counter", "soft interrupts of every kind on one CPU", ("cpu",))
CELL = Column("softirq_core_events_per_second", "1/s", "counter", "soft interrupts of one vector on one CPU",
              ("cpu", "vector"))
MOST_CORES, MOST_CELL_CORES = 64, 8
"""With more CPUs than the first only the sums over all of them are followed; with more than the second, no cells."""


_NONE = np.empty(0, dtype=np.intp)


def parse_softirqs(data: bytes) -> Keyed:
    """Names b"NET_RX", b"CPU0" and b"NET_RX CPU0": the sum of each line, of each column that is not all 0, and on hosts
    of few CPUs each number that is not 0.

    Raises NoData for an empty file, Broken where the lines have not all the same number of words.
    """
    if not data:
        raise NoData("empty")
    head, _, body = data.partition(b"\n")
    cpus = head.split()
    tokens = body.split()
    width = len(cpus) + 1
    names = tokens[::width]
    if not names or len(tokens) % width or not body.endswith(b"\n") or not all(n.endswith(b":") for n in names):
        raise Broken(f"{len(tokens)} words are no table of {len(cpus)} CPUs")
    del tokens[::width]
    counts = array(tokens).reshape(len(names), len(cpus))
    by_vector, by_cpu = counts.sum(axis=1), counts.sum(axis=0)
    seen = np.flatnonzero(by_cpu > 0) if len(cpus) <= MOST_CORES else _NONE
    cells = np.flatnonzero(counts > 0) if len(cpus) <= MOST_CELL_CORES else _NONE
    told = [n[:-1] for n in names]
    told += [cpus[i] for i in seen.tolist()]
    told += [b" ".join((names[i // len(cpus)][:-1], cpus[i % len(cpus)])) for i in cells.tolist()]
    return told, np.concatenate([by_vector, by_cpu[seen], counts.ravel()[cells]])


def plan(names: list[bytes]) -> Iterator[Item]:
    """A series for each name."""
    for at, name in enumerate(names):
        vector, blank, cpu = name.rpartition(b" ")
        word = re.sub(r"[^a-z0-9_]+", "_", text(vector if blank else name).lower())
        if blank:
            yield Item(CELL.series(text(cpu[3:]), word), (at,))
        elif name.startswith(b"CPU"):
            yield Item(CORE.series(text(name[3:])), (at,))
        else:
            yield Item(Series(f"softirq_{word}_per_second", "1/s", "counter"), (at,))


@dataclass(frozen=True, slots=True)
class Config:
    """No settings."""


class Softirqs(KeyedFile):
    """Collector of /proc/softirqs."""

    path = "proc/softirqs"
    parse = staticmethod(parse_softirqs)
    plan = staticmethod(plan)


COLLECTOR = CollectorSpec(
    name="softirqs", config=Config, build=Softirqs, reads="/proc/softirqs",
    emits=emits((VECTOR, CORE, CELL)), source="fs/proc/softirqs.c", period_s=2.0,
)
