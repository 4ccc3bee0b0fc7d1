"""Clients on another host go on asking for a server of this host that is not there: each attempt is turned away.

Its requests are made by hand: those of a socket anywhere on this kernel would be seen at their source.
"""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._hosts import SYN, far_host
from bench.drills._tools import named_python, running, scratch

CLIENT = f"""{SYN}
import time
while True:
    for _ in range(4):
        raw.sendto(syn('10.92.0.2', '10.92.0.1', 8096), ('10.92.0.1', 0))
    time.sleep(0.015)
"""


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """Some three hundred connection requests a second to a closed port of this host."""
    with far_host("shops", "uplink10", "10.92.0") as there, scratch() as folder, running(
            [*there, *named_python(folder, "stocktake", CLIENT)]):
        yield


DRILL = Drill("missing_server", "connections_turned_away", ("10.92.0.2",), inject, seconds=40, needs=("ip",))
