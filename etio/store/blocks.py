"""Samples as they were, one row per frame; and the frames that are still in the writer's queue."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from etio.core.frame import Floats, Frame
from etio.core.series import Series
from etio.store.fold import Stretches, Times, samples


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which series somebody asks for: by key, or by name; None = all."""

    keys: tuple[str, ...] | None = None
    names: tuple[str, ...] | None = None

    def has(self, series: Series) -> bool:
        """Whether this one is among them."""
        if self.keys is not None:
            return series.key in self.keys
        return self.names is None or series.name in self.names


@dataclass(frozen=True, slots=True)
class Block:
    """t_ns int64[k]; values float64[k, n] aligned with `series` (n); NaN = no value."""

    series: tuple[Series, ...]
    t_ns: Times
    values: Floats

    def stretches(self) -> Stretches:
        """The same samples one below the other."""
        row, place = np.nonzero(~np.isnan(self.values))
        return samples(self.t_ns[row], place, self.values[row, place])


def pending_block(frames: Sequence[Frame], wanted: Wanted) -> Block:
    """Frames of the queue as the files would give them."""
    latest = max((f.series for f in frames), key=len, default=())
    places = [i for i, s in enumerate(latest) if wanted.has(s)]
    values = np.full((len(frames), len(places)), np.nan)
    for row, frame in enumerate(frames):
        there = [i for i in places if i < len(frame.values)]
        values[row, : len(there)] = frame.values[there]
    return Block(tuple(latest[i] for i in places), np.array([f.t_ns for f in frames], dtype=np.int64), values)


def merged(blocks: Sequence[Block]) -> Block:
    """One block with the series of all and their rows in order of time."""
    blocks = [b for b in blocks if len(b.t_ns) or b.series]
    if len(blocks) == 1 and (np.diff(blocks[0].t_ns) > 0).all():
        return blocks[0]
    index: dict[Series, int] = {}
    for block in blocks:
        for series in block.series:
            index.setdefault(series, len(index))
    t_ns = np.unique(np.concatenate([b.t_ns for b in blocks])) if blocks else np.empty(0, dtype=np.int64)
    values = np.full((len(t_ns), len(index)), np.nan)
    for block in blocks:
        columns = np.array([index[s] for s in block.series], dtype=np.intp)
        values[np.ix_(np.searchsorted(t_ns, block.t_ns), columns)] = block.values
    return Block(tuple(index), t_ns, values)
