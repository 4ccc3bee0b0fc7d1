"""The kind of collector that reads now and makes its reading later."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from etio.core.frame import Reading


class LateCollector(ABC):
    """Implements etio.core.ports.Deferring, and by that collect()."""

    @abstractmethod
    def grab(self, t_ns: int) -> Callable[[], Reading] | Reading:
        """See etio.core.ports.Deferring. Raises NoData or Broken."""

    def collect(self, t_ns: int) -> Reading:
        """One reading. Raises NoData or Broken."""
        made = self.grab(t_ns)
        return made if isinstance(made, Reading) else made()
