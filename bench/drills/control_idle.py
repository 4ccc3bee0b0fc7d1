"""Control: nothing happens."""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """Nothing."""
    yield


DRILL = Drill("control_idle", "", (), inject, seconds=40)
