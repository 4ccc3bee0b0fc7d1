"""Reader of connect.bcc.c: outgoing TCP connections of all network namespaces.

Emits: net_connects_per_second, net_connect_latency_p50_seconds, net_connect_latency_p99_seconds (SYN to established,
of this tick, error at most 1/8), net_connect_failures_per_second{reason}, net_connect_failure_ratio (of those decided
in the last ten readings), net_connect_cancels_per_second (closed by their own program within a second: no failure),
net_close_wait_sockets (closed by their peer and not yet by their own program, among those seen since the start).
net_connections_reset_per_second{direction} (of those that stood, by a reset of their own program or of the peer),
net_connections_timed_out_per_second (given up by the kernel), net_connections_reset_ratio (of those that ended in the
last ten readings): these need to know where a socket keeps its error.
Actors: connect_failure by command name and peer; amount is the time waited in vain, reason that of the last failure.
reset_sent and reset_received by command name and peer, of connections from outside by our port; the program that gets
a reset is known where it opened the connection.
"""

from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collector.ebpf.families import BUCKETS, HEAVY_SLOTS, HEAVY_TABLE, PEER_TABLE
from collector.ebpf.heavy import TOP, Counts, HeavyTable, quantiles, text
from collector.ebpf.maps import MappedArray
from collector.ebpf.net import host, peer
from collector.ebpf.reader import LateFamily, Values
from etio.core.facts import Actor, ActorKind
from etio.core.series import Series, labels

REASONS = ("refused", "timed_out", "unreachable", "abandoned", "other", "no_local_port")
_PLACES = (0, 1, 2, 3, 4, 6)
"""Of REASONS in connect.bcc.c; between them "cancelled", which is no failure."""
_COUNTS = HEAVY_TABLE + PEER_TABLE
_CANCELLED, _STARTED, _ESTABLISHED, _CLOSE_WAIT_BEGUN, _CLOSE_WAIT_ENDED = 5, 8, 9, 10, 11
_ENDS = 12
_RESETS = _COUNTS + 8 * (BUCKETS + 16)
_OUTCOME_SHIFT, _OPENED_HERE = 24, 1 << 31
_RESET: tuple[ActorKind, ...] = ("reset_sent", "reset_received")
DIRECTIONS = ("sent", "received")
RECENT_READINGS = 10
"""A client that is tried again every few seconds has not a decision in each reading."""
MOST = 64
"""Actors of one look. Those who find no local port wait for nothing, so they stand behind all who wait."""
_SLOT_MASK = HEAVY_SLOTS - 1
_MULTIPLIER = 0x9E3779B97F4A7C15


class PeerTable:
    """Heavy hitters with the address of a peer each."""

    def __init__(self, mapped: MappedArray, offset: int) -> None:
        self._table = HeavyTable(mapped, offset)
        self._keys = mapped.view("<u8", offset, HEAVY_SLOTS * 8).reshape(HEAVY_SLOTS, 8)[:, 0]
        self._peers = mapped.view("V16", offset + HEAVY_TABLE, HEAVY_SLOTS)

    def step(self, most: int = TOP) -> NDArray[Any]:
        """See HeavyTable."""
        return self._table.step(most)

    def address(self, key: int) -> bytes | None:
        """Of a key; None where another key has taken its slot since."""
        first = ((key * _MULTIPLIER) >> 32) & _SLOT_MASK
        return next((bytes(self._peers[slot]) for slot in (first, first ^ 1) if int(self._keys[slot]) == key), None)


class Reader(LateFamily):
    """See the module's docstring."""

    def __init__(self, mapped: MappedArray, entry: dict[str, Any], cpus: int) -> None:
        super().__init__(entry)
        self._failures, self._resets = PeerTable(mapped, 0), PeerTable(mapped, _RESETS)
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
        self._ended: deque[tuple[int, int]] = deque(maxlen=RECENT_READINGS)
        self._tells_ends = "SOCK_ERR" in entry.get("offsets", ())
        if self._tells_ends:
            self.series += [
                *(Series("net_connections_reset_per_second", "1/s", "counter", labels(direction=way))
                  for way in DIRECTIONS),
                Series("net_connections_timed_out_per_second", "1/s", "counter"),
                Series("net_connections_reset_ratio", "ratio")]

    def grab(self) -> Callable[[], Values]:
        """See Family."""
        return partial(self._values, self._words.copy())

    def _values(self, now: Counts) -> Values:
        grown, counts = now - self._last, now[BUCKETS:].tolist()
        self._last = now
        p50, p99 = quantiles(grown[:BUCKETS], (0.5, 0.99)) if grown[:BUCKETS].any() else (np.nan, np.nan)
        failed = sum(int(grown[BUCKETS + place]) for place in _PLACES)
        failures = _share(self._recent, failed, failed + int(grown[BUCKETS + _ESTABLISHED]))
        return [p50, p99, failures, float(counts[_STARTED]),
                float(counts[_CANCELLED]), float(max(counts[_CLOSE_WAIT_BEGUN] - counts[_CLOSE_WAIT_ENDED], 0)),
                *(float(counts[place]) for place in _PLACES),
                *(self._ends(counts, grown[BUCKETS + _ENDS:].tolist()) if self._tells_ends else ())]

    def _ends(self, counts: list[int], grown: list[int]) -> Values:
        resets = _share(self._ended, grown[0] + grown[1], grown[3])
        return [*map(float, counts[_ENDS:_ENDS + 3]), resets]

    def runs(self) -> Mapping[str, float]:
        """See Family. Both ends of a connection change their state about ten times, all told."""
        return {"inet_sock_set_state": 10.0 * float(self._words[BUCKETS + _STARTED])}

    def actors(self) -> list[Actor]:
        """Who could not connect, and to whom; whose connections were reset by whom."""
        failures = [Actor("connect_failure", text(row["name"]), int(row["aux"]) & (1 << _OUTCOME_SHIFT) - 1,
                          count=float(row["count"]), amount=float(row["amount"]) / 1e9, unit="seconds",
                          peer=self._peer(int(row["key"])), reason=_reason(int(row["aux"]) >> _OUTCOME_SHIFT))
                    for row in self._failures.step(MOST)]
        return failures + [self._reset(row) for row in self._resets.step()]

    def _peer(self, key: int) -> str:
        """Address and port of a key; its port alone where another key has taken its slot since."""
        address = self._failures.address(key)
        return f"port {key & 0xFFFF}" if address is None else peer(address, key & 0xFFFF)

    def _reset(self, row: Any) -> Actor:
        key, aux = int(row["key"]), int(row["aux"])
        address, port, opened = self._resets.address(key), key & 0xFFFF, aux & _OPENED_HERE
        shown = "" if address is None else peer(address, port) if opened else host(address)
        return Actor(_RESET[aux >> _OUTCOME_SHIFT & 1], text(row["name"]), aux & (1 << _OUTCOME_SHIFT) - 1,
                     count=float(row["count"]), peer=shown, port=0 if opened else port)


def _share(recent: deque[tuple[int, int]], part: int, whole: int) -> float:
    """Of all of the last readings with this one, NaN where there was nothing."""
    recent.append((part, whole))
    parts, all_ = (sum(column) for column in zip(*recent, strict=True))
    return parts / all_ if all_ else float(np.nan)


def _reason(place: int) -> str:
    return REASONS[_PLACES.index(place)] if place in _PLACES else ""
