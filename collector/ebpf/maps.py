"""Maps an eBPF array read-only into memory: reading a value then costs no system call."""

import mmap
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from etio.core.errors import Broken


class MappedArray:
    """The bytes of one memory-mappable array map. Programs go on writing while we read: views are live, not copies."""

    def __init__(self, fd: int, size: int) -> None:
        """Maps `size` bytes of the map behind `fd`, which may be closed afterwards. Raises Broken."""
        try:
            self._memory = mmap.mmap(fd, size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
        except (OSError, ValueError) as error:
            raise Broken(f"eBPF map cannot be mapped: {error}") from error
        self.size = size

    def view(self, dtype: DTypeLike, offset: int, count: int) -> NDArray[Any]:
        """`count` items from byte `offset` on, read-only. Raises Broken beyond the end."""
        kind = np.dtype(dtype)
        if offset < 0 or offset + count * kind.itemsize > self.size:
            raise Broken(f"eBPF map of {self.size} bytes has no {count} x {kind.itemsize} bytes at {offset}")
        return np.frombuffer(self._memory, dtype=kind, count=count, offset=offset)
