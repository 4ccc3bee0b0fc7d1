"""Reader of block.bcc.c: block I/O latency, queues, requests, bytes, errors and requeues per device and direction.

Emits, with {device, direction=read|write}: block_latency_p50_seconds, block_latency_p99_seconds (at the device, from
issue to completion, of this tick, error at most 1/8), block_queue_p50_seconds, block_queue_p99_seconds (before that, in
the scheduler's queue; 0 for requests that went past it), block_inflight_requests, block_queued_requests (means, from
what completed requests spent there), block_requests_per_second, block_bytes_per_second, block_request_size_bytes (mean
of this tick), block_errors_per_second, block_requeues_per_second.
With direction=flush or discard, from the first on: latency, requests, errors.
Actors: block_io by submitting process and whole device. Buffered writes are mostly submitted by the kernel's flusher
threads, and named so.
"""

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from collector.ebpf.families import BLOCK_WAYS, BUCKETS, DEVICE_BYTES, DEVICES, HEAVY_TABLE
from collector.ebpf.heavy import Counts, HeavyTable, quantiles, text
from collector.ebpf.maps import MappedArray
from collector.ebpf.reader import LateFamily, Values
from etio.core.facts import Actor
from etio.core.ports import Emits
from etio.core.series import Kind, Series, labels

_BOTH: tuple[tuple[str, str, Kind, str], ...] = (
    ("queue_p50_seconds", "seconds", "gauge", "median wait in the scheduler's queue, this tick"),
    ("queue_p99_seconds", "seconds", "gauge", "99th percentile of the same"),
    ("request_size_bytes", "bytes", "gauge", "mean size of a request, this tick"),
    ("bytes_per_second", "bytes/s", "counter", "bytes completed"),
    ("inflight_requests", "1", "counter", "requests at the device, mean"),
    ("queued_requests", "1", "counter", "requests in the scheduler's queue, mean"),
    ("requeues_per_second", "1/s", "counter", "requests that the device gave back"),
)
_EVERY: tuple[tuple[str, str, Kind, str], ...] = (
    ("latency_p50_seconds", "seconds", "gauge", "median latency from issue to completion, this tick"),
    ("latency_p99_seconds", "seconds", "gauge", "99th percentile of the same"),
    ("requests_per_second", "1/s", "counter", "requests completed"),
    ("errors_per_second", "1/s", "counter", "requests that failed"),
)
EMITS = tuple(Emits(f"block_{what}", unit, ("device", "direction"), text) for what, unit, _, text in (*_EVERY, *_BOTH))

_WORDS = DEVICE_BYTES // 8
_Held = tuple[Counts, Counts | None]
"""What one track has counted, and the histogram of its queue."""
_WAY_WORDS = 8 + BUCKETS
_DIRECTIONS = ("read", "write", "flush", "discard")
_REQUESTS, _BYTES, _ERRORS, _SAMPLES, _LATENCY_NS, _QUEUE_NS, _REQUEUES = range(7)
_BUCKETS = 8
_QUEUES = 2 + BLOCK_WAYS * _WAY_WORDS
_MINOR_BITS = 20


class Reader(LateFamily):
    """See the module's docstring."""

    def __init__(self, mapped: MappedArray, entry: dict[str, Any], cpus: int) -> None:
        super().__init__(entry)
        self._sys = Path(entry["root"]) / "sys/dev/block"
        self._issuers = HeavyTable(mapped, 0)
        words = mapped.view("<u8", HEAVY_TABLE, DEVICES * _WORDS).reshape(DEVICES, _WORDS)
        self._numbers = words[:, 0]
        self._ways = words[:, 2:_QUEUES].reshape(DEVICES, BLOCK_WAYS, _WAY_WORDS)
        self._queues = words[:, _QUEUES:].reshape(DEVICES, 2, BUCKETS)
        self._tracks: list[tuple[int, int]] = []
        self._ignored: set[int] = set()
        self._last: dict[tuple[int, int], Any] = {}
        self._last_queue: dict[tuple[int, int], Any] = {}
        self._names: dict[int, str] = {}

    def grab(self) -> Callable[[], Values]:
        """See Family. A device appears with its first request, a direction likewise."""
        held = {(slot, way): (self._ways[slot, way].copy(), self._queues[slot, way].copy() if way < 2 else None)
                for slot, way in self._tracks}
        return partial(self._values, self._numbers.copy(), held)

    def _values(self, numbers: Counts, held: dict[tuple[int, int], _Held]) -> Values:
        self._find(numbers)
        return [value for slot, way in self._tracks for value in self._way(slot, way, held.get((slot, way)))]

    def _find(self, numbers: Counts) -> None:
        for slot in np.flatnonzero(numbers).tolist():
            if slot in self._ignored:
                continue
            name = self._name(int(numbers[slot]) & 0xFFFFFFFF)
            if name.startswith("ram"):
                self._ignored.add(slot)
                continue
            for way, direction in enumerate(_DIRECTIONS):
                if (slot, way) not in self._last and (way < 2 or self._ways[slot, way, _REQUESTS]):
                    self._tracks.append((slot, way))
                    self._last[slot, way] = np.zeros(_WAY_WORDS, dtype=np.uint64)
                    self._last_queue[slot, way] = np.zeros(BUCKETS, dtype=np.uint64)
                    self.series += _series(name, direction, way)

    def _way(self, slot: int, way: int, held: _Held | None) -> Values:
        """held: None for a track that was found just now."""
        last, (now, waits) = self._last[slot, way], held or (self._ways[slot, way].copy(), self._queues[slot, way % 2])
        self._last[slot, way] = now
        quiet = bool(last[_REQUESTS] == now[_REQUESTS] and last[_SAMPLES] == now[_SAMPLES])
        latency = [np.nan, np.nan] if quiet else quantiles((now - last)[_BUCKETS:], (0.5, 0.99))
        every = [*latency, float(now[_REQUESTS]), float(now[_ERRORS])]
        return every if way > 1 else every + self._both(slot, way, now, now - last, waits if not quiet else None)

    def _both(self, slot: int, way: int, now: Counts, grown: Counts, waits: Counts | None) -> Values:
        """waits: the histogram of the queue, None where nothing was asked."""
        queue = [np.nan, np.nan]
        if waits is not None:
            queue = quantiles(waits - self._last_queue[slot, way], (0.5, 0.99))
            self._last_queue[slot, way] = waits.copy()
        size = float(grown[_BYTES]) / float(grown[_REQUESTS]) if grown[_REQUESTS] else np.nan
        return [*queue, size, float(now[_BYTES]), float(now[_LATENCY_NS]) / 1e9, float(now[_QUEUE_NS]) / 1e9,
                float(now[_REQUEUES])]

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

    def runs(self) -> Mapping[str, float]:
        """See Family."""
        requests = float(self._ways[:, :, _REQUESTS].sum())
        return dict.fromkeys(("block_bio_queue", "block_rq_issue", "block_rq_complete"), requests)

    def actors(self) -> list[Actor]:
        """Processes that issued most bytes, per device."""
        return [Actor("block_io", text(row["name"]), int(row["key"] - 1) & 0xFFFFFFFF, count=float(row["count"]),
                      amount=float(row["amount"]), unit="bytes", device=self._name(int(row["aux"])))
                for row in self._issuers.step()]


def _series(device: str, direction: str, way: int) -> list[Series]:
    own = labels(device=device, direction=direction)
    return [Series(f"block_{what}", unit, kind, own) for what, unit, kind, _ in (_EVERY if way > 1 else _EVERY + _BOTH)]
