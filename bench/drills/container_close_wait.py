"""A server in a network namespace of its own forgets to close its connections: the host's sockets do not show it."""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._hosts import far_host
from bench.drills._tools import named_python, running, scratch
from bench.drills.close_wait import CLIENT, SERVER


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """Server and clients of the drill close_wait, both behind a veth pair."""
    with far_host("vaultnet", "uplink9", "10.91.0") as there, scratch() as folder, running(
            [*there, *named_python(folder, "vaultd", SERVER)], [*there, *named_python(folder, "tellers", CLIENT)]):
        yield


DRILL = Drill("container_close_wait", "close_wait_leak", ("vaultd",), inject, seconds=120, needs=("ip",))
