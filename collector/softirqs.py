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
MOST_CORES = 64
"""With more CPUs than that only the sums are followed."""


def parse_softirqs(data: bytes) -> Keyed:
    """Names b"NET_RX" and b"CPU0", and the sum of each line and of each column that is not all 0.

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
    seen = np.flatnonzero(by_cpu > 0) if len(cpus) <= MOST_CORES else np.empty(0, dtype=np.intp)
    return [n[:-1] for n in names] + [cpus[i] for i in seen.tolist()], np.concatenate([by_vector, by_cpu[seen]])


def plan(names: list[bytes]) -> Iterator[Item]:
    """A series for each name."""
    for at, name in enumerate(names):
        if name.startswith(b"CPU"):
            yield Item(CORE.series(text(name[3:])), (at,))
        else:
            word = re.sub(r"[^a-z0-9_]+", "_", text(name).lower())
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
    emits=emits((VECTOR, CORE)), source="fs/proc/softirqs.c", period_s=2.0,
)
