"""Per-series state as arrays that grow together, and its way into a snapshot and back."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etio.core.errors import Broken
from etio.core.series import Series

Array = NDArray[Any]
Bools = NDArray[np.bool_]
Ints = NDArray[np.intp]


class Columns:
    """Named arrays whose last axis is the series; a new series gets a fresh column in each.

    >>> state = Columns(count=np.zeros(1), ring=np.full((4, 1), np.nan, np.float32))
    >>> state.grow(3)
    >>> state["count"].shape, state["ring"].shape
    ((3,), (4, 3))
    """

    def __init__(self, **fresh: Array) -> None:
        """fresh: for each name the column of a new series, shape (..., 1)."""
        self._fresh = fresh
        self._arrays = {name: column[..., :0].copy() for name, column in fresh.items()}
        self.n = 0

    def __getitem__(self, name: str) -> Array:
        """The array itself, not a copy; valid until the next grow()."""
        return self._arrays[name]

    def __setitem__(self, name: str, array: Array) -> None:
        self._arrays[name][...] = array

    def grow(self, n: int) -> None:
        """Adds columns until there are n."""
        if n > self.n:
            for name, column in self._fresh.items():
                more = np.repeat(column, n - self.n, axis=-1)
                self._arrays[name] = np.concatenate([self._arrays[name], more], axis=-1)
            self.n = n

    @property
    def bytes_per_series(self) -> int:
        """Memory of one column over all arrays."""
        return sum(column.nbytes for column in self._fresh.values())

    def snapshot(self) -> dict[str, Array]:
        """Copies of all arrays."""
        return {name: array.copy() for name, array in self._arrays.items()}

    def check(self, saved: Mapping[str, Any], n: int) -> None:
        """Raises Broken where `saved` is not a snapshot of n columns of this shape."""
        for name, column in self._fresh.items():
            array = saved.get(name)
            shape = (*column.shape[:-1], n)
            if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != column.dtype:
                raise Broken(f"detector state: {name}: expected {column.dtype} of shape {shape}")

    def take(self, saved: Mapping[str, Array], source: Sequence[int], target: Sequence[int]) -> None:
        """Copies the saved columns `source` to the own columns `target`."""
        for name in self._fresh:
            self._arrays[name][..., list(target)] = saved[name][..., list(source)]


class Memory:
    """A snapshot whose series are adopted one by one as they appear in the catalogue again.

    After a restart the catalogue grows anew and in another order, so columns are matched by Series.key.
    """

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}
        self._parts: tuple[tuple[Columns, Mapping[str, Array]], ...] = ()

    def load(self, keys: Sequence[str], parts: Sequence[tuple[Columns, Mapping[str, Array]]]) -> None:
        """Remembers a snapshot. Raises Broken where a part does not fit; then nothing is remembered."""
        if len(set(keys)) != len(keys) or not all(isinstance(key, str) for key in keys):
            raise Broken("detector state: keys must be distinct texts")
        for columns, saved in parts:
            columns.check(saved, len(keys))
        self._rows = {key: row for row, key in enumerate(keys)}
        self._parts = tuple(parts)

    def adopt(self, series: Sequence[Series], first: int) -> None:
        """Gives the series at positions first.. of the catalogue their remembered columns back."""
        if not self._rows:
            return
        found = [(i, self._rows.pop(s.key)) for i, s in enumerate(series[first:], first) if s.key in self._rows]
        if found:
            target, source = zip(*found, strict=True)
            for columns, saved in self._parts:
                columns.take(saved, source, target)
        if not self._rows:
            self._parts = ()


def part(state: Mapping[str, Any], name: str, kind: type[Any]) -> Any:
    """One entry of a snapshot. Raises Broken where it is absent or of another type."""
    value = state.get(name) if isinstance(state, Mapping) else None
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise Broken(f"detector state: {name}: expected {kind.__name__}, got {type(value).__name__}")
    return value
