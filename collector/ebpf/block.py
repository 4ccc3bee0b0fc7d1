"""Reader of block.bcc.c: block I/O latency, requests, bytes and errors per device and direction.

Emits, with {device, direction=read|write}: block_latency_p50_seconds, block_latency_p99_seconds (issue to completion,
of this tick, error at most 1/8), block_requests_per_second, block_bytes_per_second, block_errors_per_second.
Actors: block_io by submitting process and whole device. Buffered writes are mostly submitted by the kernel's flusher
threads, and named so.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np

from collector.ebpf.families import BUCKETS, DEVICE_BYTES, DEVICES, HEAVY_TABLE
from collector.ebpf.heavy import HeavyTable, quantiles, text
from collector.ebpf.maps import MappedArray
from collector.ebpf.reader import Family, Values
from etio.core.facts import Actor
from etio.core.series import Series, labels

_WORDS = DEVICE_BYTES // 8
_WAY_WORDS = 6 + BUCKETS
_REQUESTS, _BYTES, _ERRORS, _SAMPLES, _BUCKETS = 0, 1, 2, 3, 6
_MINOR_BITS = 20


class Reader(Family):
    """See the module's docstring."""

    def __init__(self, mapped: MappedArray, entry: dict[str, Any], cpus: int) -> None:
        super().__init__(entry)
        self._sys = Path(entry["root"]) / "sys/dev/block"
        self._issuers = HeavyTable(mapped, 0)
        words = mapped.view("<u8", HEAVY_TABLE, DEVICES * _WORDS).reshape(DEVICES, _WORDS)
        self._numbers = words[:, 0]
        self._ways = words[:, 2:].reshape(DEVICES, 2, _WAY_WORDS)
        self._slots: list[int] = []
        self._known = np.zeros(DEVICES, dtype=bool)
        self._last: dict[tuple[int, int], Any] = {}
        self._names: dict[int, str] = {}

    def read(self) -> Values:
        """Values in the order of `series`; a device appears with its first request."""
        self._find_devices()
        return [value for slot in self._slots for way in (0, 1) for value in self._way(slot, way)]

    def _find_devices(self) -> None:
        fresh = np.flatnonzero((self._numbers != 0) & ~self._known)
        for slot in fresh:
            self._known[slot] = True
            name = self._name(int(self._numbers[slot]) & 0xFFFFFFFF)
            if name.startswith("ram"):
                continue
            self._slots.append(int(slot))
            for direction in ("read", "write"):
                self.series += _series(name, direction)

    def _way(self, slot: int, way: int) -> Values:
        live = self._ways[slot, way]
        last = self._last.get((slot, way))
        if last is not None and last[_REQUESTS] == live[_REQUESTS] and last[_SAMPLES] == live[_SAMPLES]:
            return [np.nan, np.nan, float(last[_REQUESTS]), float(last[_BYTES]), float(last[_ERRORS])]
        now = live.copy()
        grown = now[_BUCKETS:] - last[_BUCKETS:] if last is not None else now[_BUCKETS:]
        self._last[slot, way] = now
        return [*quantiles(grown, (0.5, 0.99)), float(now[_REQUESTS]), float(now[_BYTES]), float(now[_ERRORS])]

    def _name(self, dev: int) -> str:
        """Kernel name of the whole device behind a number, such as "sda" (for sda1, too); "8:0" where unknown."""
        number = f"{dev >> _MINOR_BITS}:{dev & ((1 << _MINOR_BITS) - 1)}"
        if dev not in self._names:
            try:
                parts = os.readlink(self._sys / number).split("/")
            except OSError:
                return number
            partition = (self._sys / number / "partition").exists()
            self._names[dev] = parts[-2 if partition and len(parts) > 1 else -1]
        return self._names[dev]

    def actors(self) -> list[Actor]:
        """Processes that issued most bytes, per device."""
        return [Actor("block_io", text(row["name"]), int(row["key"] - 1) & 0xFFFFFFFF, count=float(row["count"]),
                      amount=float(row["amount"]), unit="bytes", device=self._name(int(row["aux"])))
                for row in self._issuers.step()]


def _series(device: str, direction: str) -> list[Series]:
    own = labels(device=device, direction=direction)
    return [
        Series("block_latency_p50_seconds", "seconds", "gauge", own),
        Series("block_latency_p99_seconds", "seconds", "gauge", own),
        Series("block_requests_per_second", "1/s", "counter", own),
        Series("block_bytes_per_second", "bytes/s", "counter", own),
        Series("block_errors_per_second", "1/s", "counter", own),
    ]
