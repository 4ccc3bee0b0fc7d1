"""A circuit breaker: after some failures in a row a model is left alone for a while."""

from dataclasses import dataclass


@dataclass(slots=True)
class Breaker:
    """Pure but for its own state; time comes in.

    failures: so many in a row open it.
    rest_ns: for so long, twice as long after each further failure, at most 8 times as long.
    """

    failures: int = 3
    rest_ns: int = 300_000_000_000
    _row: int = 0
    _open_until_ns: int = 0

    def allows(self, now_ns: int) -> bool:
        """Whether the model may be asked now."""
        return now_ns >= self._open_until_ns

    def worked(self) -> None:
        """The model gave a usable answer."""
        self._row = 0
        self._open_until_ns = 0

    def failed(self, now_ns: int) -> None:
        """The model did not give a usable answer."""
        self._row += 1
        if self._row >= self.failures:
            self._open_until_ns = now_ns + self.rest_ns * min(8, 2 ** (self._row - self.failures))
