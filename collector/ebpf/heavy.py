"""Reads the heavy-hitter tables and the latency histograms that the programs keep."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collector.ebpf.families import BUCKETS, HEAVY_SLOTS
from collector.ebpf.maps import MappedArray
from etio.core.frame import Floats

HEAVY = np.dtype([("key", "<u8"), ("name", "S16"), ("count", "<u8"), ("amount", "<u8"), ("credit", "<u8"),
                  ("seen_ns", "<u8"), ("generation", "<u4"), ("aux", "<u4")])
_KEY, _COUNT, _AMOUNT, _OWNER = 0, 3, 4, 7
"""The same in words of 8 bytes; the last one holds generation and aux."""
_GENERATION = np.uint64(0xFFFFFFFF)
UNIT_NS = 64
TOP = 16
Counts = NDArray[np.uint64]


def _edges() -> Floats:
    """Lower edge of each bucket and the end of the last, in seconds: float64[BUCKETS + 1]."""
    index = np.arange(BUCKETS + 1)
    octave = np.maximum(index // 8, 1) - 1
    units = np.where(index < 8, index, (8 + index % 8) * 2.0 ** octave)
    return np.asarray(units * UNIT_NS / 1e9, dtype=np.float64)


EDGES = _edges()


def quantiles(counts: Counts, shares: tuple[float, ...]) -> list[float]:
    """Seconds below which each share of the counted latencies lies; NaN when nothing was counted.

    counts: uint64[BUCKETS]. Interpolated within the bucket, so off by at most 1/8 of the value (64 ns below 512 ns).

    >>> import numpy as np
    >>> one = np.zeros(256, dtype=np.uint64); one[8] = 4
    >>> [round(q * 1e9) for q in quantiles(one, (0.5, 1.0))]
    [544, 576]
    """
    total = np.cumsum(counts.astype(np.float64))
    if total[-1] <= 0:
        return [np.nan] * len(shares)
    found = []
    for share in shares:
        wanted = share * total[-1]
        i = int(np.searchsorted(total, wanted))
        below = total[i - 1] if i else 0.0
        part = (wanted - below) / (total[i] - below)
        found.append(float(EDGES[i] + part * (EDGES[i + 1] - EDGES[i])))
    return found


class HeavyTable:
    """One heavy-hitter table: what grew since the last look."""

    def __init__(self, mapped: MappedArray, offset: int) -> None:
        words = HEAVY.itemsize // 8
        self._live = mapped.view("<u8", offset, HEAVY_SLOTS * words).reshape(HEAVY_SLOTS, words)
        self._last = self._live.copy()

    def step(self, most: int = TOP) -> NDArray[Any]:
        """The at most `most` slots that grew most in amount (then in count), with count and amount as growth.

        A slot that another key took over meanwhile counts from its take-over on.
        """
        live, last = self._live, self._last
        rows = np.flatnonzero((live[:, _COUNT] != last[:, _COUNT]) | (live[:, _OWNER] != last[:, _OWNER]))
        grown, last = live[rows], last[rows]
        self._last[rows] = grown
        other = (grown[:, _KEY] != last[:, _KEY]) | (((grown[:, _OWNER] ^ last[:, _OWNER]) & _GENERATION) != 0)
        last[other] = 0
        for column in (_COUNT, _AMOUNT):
            now, before = grown[:, column], last[:, column]
            grown[:, column] = np.where(now >= before, now - before, 0)
        grown = grown[grown[:, _COUNT] > 0]
        order = np.lexsort((grown[:, _COUNT], grown[:, _AMOUNT]))[::-1][:most]
        return grown[order].reshape(-1).view(HEAVY)


@lru_cache(maxsize=1024)
def text(raw: bytes) -> str:
    """A command name as the kernel holds it; untrusted, so what is not printable becomes "?"."""
    return "".join(c if c.isprintable() else "?" for c in raw.decode("utf-8", "replace"))
