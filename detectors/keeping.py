"""What all detectors with a memory share: a snapshot is taken back whole, or refused and the detector is fresh."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from etio.core.errors import Broken
from etio.core.score import Band
from etio.core.series import Series


class Keeping(ABC):
    """Base of detectors that learn; it has no range of a series to tell unless the detector says otherwise."""

    @abstractmethod
    def _reset(self) -> None:
        """Forgets everything."""

    @abstractmethod
    def _restore(self, state: Mapping[str, Any]) -> None:
        """Takes the parts of a snapshot; may raise Broken half way."""

    @abstractmethod
    def _grow(self, series: tuple[Series, ...]) -> None:
        """Takes new series of the catalogue in."""

    def band(self) -> Band | None:
        """None: no range of single series."""
        return None

    def restore(self, state: Mapping[str, Any], series: tuple[Series, ...]) -> None:
        """Takes a snapshot back; series not yet in the catalogue get their part when they appear.

        Raises Broken and starts afresh where the snapshot does not fit this detector and configuration.
        """
        self._reset()
        try:
            self._restore(state)
        except Broken:
            self._reset()
            raise
        self._grow(series)
