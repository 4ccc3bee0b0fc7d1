"""The plain kind of collector: one file, a constant list of series."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from collector.files import File
from collector.table import NAN, Column, Fixed
from etio.core.errors import NoData
from etio.core.frame import Reading


class OneFile(ABC):
    """Implements etio.core.ports.Collector for subclasses that name a file, its columns and its parser."""

    path: ClassVar[str]
    columns: ClassVar[tuple[Column, ...]]
    sums_lines: ClassVar[bool] = False
    """The values are sums over lines, one for each online CPU. When a CPU comes or goes the sum jumps; that reading
    has no values."""
    def __init__(self, config: Any) -> None:
        self._fixed = Fixed([c.series() for c in self.columns])
        self._file: File | None = None
        self._lines = -1

    def open(self, root: Path) -> None:
        """Raises NoData or Broken, naming the path."""
        self._file = File(root / self.path)

    def collect(self, t_ns: int) -> Reading:
        """One reading. Raises NoData or Broken, naming the path."""
        if self._file is None:
            raise NoData(f"{self.path}: not open")
        return self._fixed.reading(self._file.parse(self._values))

    def _values(self, data: bytes) -> list[float]:
        values = self.parse(data)
        if not self.sums_lines:
            return values
        before, self._lines = self._lines, data.count(b"\n")
        return values if before in (-1, self._lines) else [NAN] * len(values)

    @staticmethod
    @abstractmethod
    def parse(data: bytes) -> list[float]:
        """Raw values in the order of `columns`, NaN = no value. Raises NoData or Broken."""

    def close(self) -> None:
        """May be called twice."""
        if self._file is not None:
            self._file.close()
            self._file = None
