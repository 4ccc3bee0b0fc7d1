"""A server that closes before it has read what it was sent: each of its connections ends in a reset."""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._hosts import far_host
from bench.drills._tools import named_python, running, scratch

SERVER = """
import select, socket
s = socket.create_server(('10.91.0.1', 8097), backlog=256)
while True:
    c, _ = s.accept()
    select.select([c], [], [], 0.5)
    c.close()
"""
CLIENT = """
import contextlib, socket, time
time.sleep(0.5)
while True:
    for _ in range(4):
        with contextlib.suppress(OSError), socket.create_connection(('10.91.0.1', 8097), timeout=5) as c:
            c.sendall(b'POST / HTTP/1.0' + bytes(512))
            c.recv(512)
    time.sleep(0.01)
"""


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """Some two hundred connections a second from another host, all of them broken off."""
    with far_host("buyers", "uplink9", "10.91.0") as there, scratch() as folder, running(
            named_python(folder, "quoted", SERVER), [*there, *named_python(folder, "bidder", CLIENT)]):
        yield


DRILL = Drill("resetting_server", "connections_reset", ("quoted",), inject, seconds=40, needs=("ip",))
