"""Forged connection requests from a network far away; the server itself is healthy."""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._hosts import SYN, far_host
from bench.drills._tools import named_python, running, scratch, sh

SERVER = """
import socket
s = socket.create_server(('10.85.0.1', 8443), backlog=64)
while True:
    s.accept()[0].close()
"""
FLOOD = f"""{SYN}
import time
while True:
    for _ in range(20):
        source = '198.18.%d.%d' % (random.randrange(256), random.randrange(1, 255))
        raw.sendto(syn(source, '10.85.0.1', 8443), ('10.85.0.1', 0))
    time.sleep(0.03)
"""


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """Some six hundred requests a second, each from another address of 198.18.0.0/16, which leads back there."""
    with far_host("edge", "uplink3", "10.85.0") as there, scratch() as folder:
        sh("ip", "route", "add", "198.18.0.0/16", "via", "10.85.0.2")
        with running(named_python(folder, "portald", SERVER), [*there, *named_python(folder, "noise", FLOOD)]):
            yield


DRILL = Drill("syn_flood", "syn_flood", ("addresses", "198.18."), inject, seconds=45, needs=("ip",))
