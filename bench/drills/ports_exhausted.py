"""A client without a connection pool uses up the local ports towards its only server."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from bench.drills import Drill
from bench.drills._hosts import far_host
from bench.drills._tools import named_python, running, scratch

RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
SERVER = """
import socket
s = socket.create_server(('10.84.0.2', 9080), backlog=512)
while True:
    s.accept()[0].recv(1)
"""
CLIENT = """
import socket, time
time.sleep(0.5)
while True:
    try:
        with socket.create_connection(('10.84.0.2', 9080), timeout=2):
            pass
        time.sleep(0.002)
    except OSError:
        time.sleep(0.05)
"""


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """A range of 4,000 ports, and some hundred connections a second that the client closes first (TIME_WAIT)."""
    before = RANGE.read_text()
    try:
        with far_host("shopdb", "uplink2", "10.84.0") as there, scratch() as folder:
            RANGE.write_text("56000 59999")
            with running([*there, *named_python(folder, "ledgerd", SERVER)], named_python(folder, "fetcher", CLIENT)):
                yield
    finally:
        RANGE.write_text(before)


DRILL = Drill("ports_exhausted", "ports_exhausted", ("fetcher",), inject, seconds=60, needs=("ip",))
