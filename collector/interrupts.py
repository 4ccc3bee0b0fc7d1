"""Interrupts by line: which device interrupts how often, and whether one CPU has to serve them all.

Reads:  /proc/interrupts (grows with CPUs x lines: read every other second, and of many lines only the busiest)
Emits:  interrupt_events_per_second{irq,device}, interrupt_busiest_cpu_ratio, interrupt_lines_left_out
Needs:  -
Source: Linux fs/proc/interrupts.c, kernel/irq/proc.c (show_interrupts): a column for each online CPU
"""

import re
from dataclasses import dataclass
from functools import partial
from math import isnan
from pathlib import Path

from collector.files import File
from collector.keyed import array
from collector.table import NAN, Column, Table, emits, text
from etio.core.errors import Broken, NoData
from etio.core.frame import NS, Floats, Reading
from etio.core.ports import CollectorSpec
from etio.core.series import Series

EVENTS = Column("interrupt_events_per_second", "1/s", "counter", "interrupts of one line, all CPUs", ("irq", "device"))
SKEW = Column("interrupt_busiest_cpu_ratio", "ratio", "gauge",
              "of the device that interrupts most: share served by the one CPU that serves most of it")
LEFT_OUT = Column("interrupt_lines_left_out", "1", "gauge", "lines that are not followed because there are too many")
BUSY = 100.0
"""Interrupts a second below which it means nothing that one CPU serves them all."""
DEVICE_BYTES = 12
"""So much of the end of a line is compared to notice that another device has its number now."""
MOST_SERIES = 4
"""Times max_lines: series that are ever made, however often devices come and go."""
_DEVICE = re.compile(r"(?:\d+[-\s]+(?:edge|level|fasteoi)|\b(?:Edge|Level))\s+(\S.*)$", re.IGNORECASE)
Line = tuple[bytes, bytes]
"""Name of the line (b"24", b"LOC") and what stands behind its colon."""


def parse_interrupts(data: bytes) -> tuple[int, list[Line]]:
    """(CPUs online, lines). Raises NoData for an empty file, Broken where the head or every line is missing."""
    if not data:
        raise NoData("empty")
    head, *lines = data.split(b"\n")[:-1] or [b""]
    cpus = head.split()
    found = [(name.strip(), rest) for name, colon, rest in (line.partition(b":") for line in lines) if colon]
    if not cpus or not all(c.startswith(b"CPU") for c in cpus) or not found:
        raise Broken("no head with CPUs and no lines behind it")
    return len(cpus), found


def counts(rest: bytes, cpus: int) -> Floats:
    """float64[CPUs]: the counts of a line; only one for lines that are not kept by CPU (ERR)."""
    tokens = rest.split(None, cpus)[:cpus]
    while tokens and not tokens[-1].isdigit():
        tokens.pop()
    return array(tokens)


def total(name: bytes, rest: bytes, cpus: int) -> float:
    """All of a line; NaN where a line of a device has not a count for each CPU, or any line none at all."""
    found = counts(rest, cpus)
    return float(found.sum()) if len(found) == cpus or (len(found) and not name.isdigit()) else NAN


def device_of(name: bytes, rest: bytes, cpus: int) -> str:
    """Who interrupts, at most 64 characters: the handlers of a line, or what the kernel says of its own.

    >>> device_of(b"36", b" 0 7 PCI-MSIX-0000:00:02.0 1-edge      virtio1-req.0", 2)
    'virtio1-req.0'
    >>> device_of(b"LOC", b" 5 6   Local timer interrupts", 2)
    'Local timer interrupts'
    """
    words = rest.split()[len(counts(rest, cpus)):]
    label = text(b" ".join(words))
    if name.isdigit():
        found = _DEVICE.search(label)
        label = found[1] if found else ""
    return "".join(c if c.isprintable() else "?" for c in label)[:64]


def busiest_share(before: Floats, after: Floats) -> float:
    """Share of the growth of a line that the CPU with most of it had; NaN where a count went backwards."""
    growth = after - before
    whole = float(growth.sum())
    return float(growth.max()) / whole if whole > 0 and growth.min() >= 0 else NAN


@dataclass(frozen=True, slots=True)
class Config:
    """max_lines: how many lines are followed at most, those first that were busiest since boot."""

    max_lines: int = 64


class Interrupts:
    """Collector of /proc/interrupts."""

    def __init__(self, config: Config) -> None:
        self._max = config.max_lines
        self._table = Table()
        self._file: File | None = None
        self._names: list[bytes] = []
        self._followed: dict[bytes, Series] = {}
        self._before: dict[bytes, tuple[bytes, float]] = {}
        self._left_out = NAN
        self._cpus = 0
        self._t_ns = 0

    def open(self, root: Path) -> None:
        """Raises NoData or Broken."""
        self._file = File(root / "proc/interrupts", long_lines=True)

    def collect(self, t_ns: int) -> Reading:
        """One reading. Raises NoData or Broken."""
        if self._file is None:
            raise NoData("not open")
        cpus, lines = self._file.parse(parse_interrupts)
        names = [name + rest[-DEVICE_BYTES:] if name.isdigit() else name for name, rest in lines]
        if names != self._names:
            self._names, self._followed = names, self._choose(cpus, lines)
        if cpus != self._cpus:  # the sums fall or jump with a CPU that goes or comes; such a reading has no values
            fresh, self._cpus, self._before = not self._cpus, cpus, {}
        else:
            fresh = True
        now = {n: (rest, total(n, rest, cpus)) for n, rest in lines if n in self._followed}
        self._table.start()
        for name, (_, count) in now.items():
            series = self._followed[name]
            self._table.put(series, partial(list, (series,)), [count if fresh else NAN])
        skew = self._skew(now, (t_ns - self._t_ns) / NS)
        self._table.put("host", _host_series, [skew, self._left_out])
        self._before, self._t_ns = now, t_ns
        return self._table.reading()

    def _choose(self, cpus: int, lines: list[Line]) -> dict[bytes, Series]:
        """The lines to follow: those followed before that are still the same, then the busiest of the others."""
        of = {name: EVENTS.series(text(name), device_of(name, rest, cpus)) for name, rest in lines}
        kept = {n: s for n, s in of.items() if self._followed.get(n) == s}
        counted = {n: total(n, rest, cpus) for n, rest in lines if n not in kept}
        others = {n: t for n, t in counted.items() if not isnan(t)}
        room = min(self._max - len(kept), MOST_SERIES * self._max - len(self._table.series))
        for name in sorted(others, key=others.__getitem__, reverse=True)[:max(0, room)]:
            kept[name] = of[name]
            del others[name]
        self._left_out = float(len(others))
        return {n: s for n, s in of.items() if n in kept}

    def _skew(self, now: dict[bytes, tuple[bytes, float]], seconds: float) -> float:
        grown = {n: c - self._before[n][1] for n, (_, c) in now.items() if n in self._before and n.isdigit()}
        grown = {n: g for n, g in grown.items() if g > 0}
        name = max(grown, key=grown.__getitem__, default=b"")
        if not name or seconds <= 0 or not grown[name] / seconds >= BUSY or self._cpus < 2:
            return NAN
        before, after = (counts(rest, self._cpus) for rest in (self._before[name][0], now[name][0]))
        return busiest_share(before, after) if len(before) == len(after) else NAN

    def close(self) -> None:
        """May be called twice."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _host_series() -> list[Series]:
    return [SKEW.series(), LEFT_OUT.series()]


COLLECTOR = CollectorSpec(
    name="interrupts", config=Config, build=Interrupts, reads="/proc/interrupts",
    emits=emits((EVENTS, SKEW, LEFT_OUT)), source="fs/proc/interrupts.c", period_s=5.0, optional=True,
)
