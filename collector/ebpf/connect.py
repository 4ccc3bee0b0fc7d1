"""Reader of connect.bcc.c: outgoing TCP connections of all network namespaces.

Emits: net_connects_per_second, net_connect_latency_p50_seconds, net_connect_latency_p99_seconds (SYN to established,
of this tick, error at most 1/8), net_connect_failures_per_second{reason}, net_connect_failure_ratio (of those decided
in the last ten readings), net_connect_cancels_per_second (closed by their own program within a second: no failure),
net_close_wait_sockets (closed by their peer and not yet by their own program, among those seen since the start).
Actors: connect_failure by command name and peer; amount is the time waited in vain, reason that of the last failure.
"""

from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from collector.ebpf.families import BUCKETS, HEAVY_SLOTS, HEAVY_TABLE, PEER_TABLE
from collector.ebpf.heavy import Counts, HeavyTable, quantiles, text
from collector.ebpf.maps import MappedArray
from collector.ebpf.net import peer
from collector.ebpf.reader import LateFamily, Values
from etio.core.facts import Actor
from etio.core.series import Series, labels

REASONS = ("refused", "timed_out", "unreachable", "abandoned", "other", "no_local_port")
_PLACES = (0, 1, 2, 3, 4, 6)
"""Of REASONS in connect.bcc.c; between them "cancelled", which is no failure."""
_COUNTS = HEAVY_TABLE + PEER_TABLE
_CANCELLED, _STARTED, _ESTABLISHED, _CLOSE_WAIT_BEGUN, _CLOSE_WAIT_ENDED = 5, 8, 9, 10, 11
_OUTCOME_SHIFT = 24
RECENT_READINGS = 10
"""A client that is tried again every few seconds has not a decision in each reading."""
MOST = 64
"""Actors of one look. Those who find no local port wait for nothing, so they stand behind all who wait."""
_SLOT_MASK = HEAVY_SLOTS - 1
_MULTIPLIER = 0x9E3779B97F4A7C15


class Reader(LateFamily):
    """See the module's docstring."""

    def __init__(self, mapped: MappedArray, entry: dict[str, Any], cpus: int) -> None:
        super().__init__(entry)
        self._failures = HeavyTable(mapped, 0)
        self._keys = mapped.view("<u8", 0, HEAVY_SLOTS * 8).reshape(HEAVY_SLOTS, 8)[:, 0]
        self._peers = mapped.view("V16", HEAVY_TABLE, HEAVY_SLOTS)
        self._words = mapped.view("<u8", _COUNTS, BUCKETS + 16)
        self._last = self._words.copy()
        self._recent: deque[tuple[int, int]] = deque(maxlen=RECENT_READINGS)
        self.series = [
            Series("net_connect_latency_p50_seconds", "seconds"),
            Series("net_connect_latency_p99_seconds", "seconds"),
            Series("net_connect_failure_ratio", "ratio"),
            Series("net_connects_per_second", "1/s", "counter"),
            Series("net_connect_cancels_per_second", "1/s", "counter"),
            Series("net_close_wait_sockets", "1"),
            *(Series("net_connect_failures_per_second", "1/s", "counter", labels(reason=r)) for r in REASONS),
        ]

    def grab(self) -> Callable[[], Values]:
        """See Family."""
        return partial(self._values, self._words.copy())

    def _values(self, now: Counts) -> Values:
        grown, counts = now - self._last, now[BUCKETS:].tolist()
        self._last = now
        p50, p99 = quantiles(grown[:BUCKETS], (0.5, 0.99)) if grown[:BUCKETS].any() else (np.nan, np.nan)
        failed = sum(int(grown[BUCKETS + place]) for place in _PLACES)
        self._recent.append((failed, failed + int(grown[BUCKETS + _ESTABLISHED])))
        failures, decided = (sum(column) for column in zip(*self._recent, strict=True))
        return [p50, p99, failures / decided if decided else np.nan, float(counts[_STARTED]),
                float(counts[_CANCELLED]), float(max(counts[_CLOSE_WAIT_BEGUN] - counts[_CLOSE_WAIT_ENDED], 0)),
                *(float(counts[place]) for place in _PLACES)]

    def runs(self) -> Mapping[str, float]:
        """See Family. Both ends of a connection change their state about ten times, all told."""
        return {"inet_sock_set_state": 10.0 * float(self._words[BUCKETS + _STARTED])}

    def actors(self) -> list[Actor]:
        """Who could not connect, and to whom."""
        return [Actor("connect_failure", text(row["name"]), int(row["aux"]) & (1 << _OUTCOME_SHIFT) - 1,
                      count=float(row["count"]), amount=float(row["amount"]) / 1e9, unit="seconds",
                      peer=self._peer(int(row["key"])), reason=_reason(int(row["aux"]) >> _OUTCOME_SHIFT))
                for row in self._failures.step(MOST)]

    def _peer(self, key: int) -> str:
        """Address and port of a key; its port alone where another key has taken its slot since."""
        first = ((key * _MULTIPLIER) >> 32) & _SLOT_MASK
        for slot in (first, first ^ 1):
            if int(self._keys[slot]) == key:
                return peer(bytes(self._peers[slot]), key & 0xFFFF)
        return f"port {key & 0xFFFF}"


def _reason(place: int) -> str:
    return REASONS[_PLACES.index(place)] if place in _PLACES else ""
