"""A server in a network namespace of its own accepts too slowly: no counter of the host shows it."""

import contextlib
import time
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._hosts import far_host
from bench.drills._tools import named_python, running, scratch
from bench.drills.listen_overflow import CLIENTS, SERVER

SETTLED_S = 25.0
"""A container is not met for the first time when it is in trouble."""


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """Server and clients of the drill listen_overflow behind a veth pair; the server has been there for a while."""
    with far_host("podnet", "uplink7", "10.89.0") as there, scratch() as folder, running(
            [*there, *named_python(folder, "kioskd", SERVER)]):
        time.sleep(SETTLED_S)
        with running([*there, *named_python(folder, "guests", CLIENTS)]):
            yield


DRILL = Drill("container_overflow", "namespace_losses", ("kioskd", "guests"), inject, seconds=45, needs=("ip",))
