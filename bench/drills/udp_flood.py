"""A metrics receiver that reads its datagrams too slowly."""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._tools import named_python, running, scratch

RECEIVE = """
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
s.bind(('127.0.0.1', {port}))
while True:
    s.recv(2000)
    time.sleep(0.01)
"""
SEND = """
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    for _ in range(10):
        s.sendto(b'x' * 200, ('127.0.0.1', {port}))
    time.sleep(0.01)
"""
PORT = 45997


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """A thousand datagrams a second for a receiver that takes a hundred."""
    with scratch() as folder, running(named_python(folder, "statsink", RECEIVE.format(port=PORT)),
                                      named_python(folder, "emitter", SEND.format(port=PORT))):
        yield


DRILL = Drill("udp_flood", "udp_overflow", ("statsink",), inject)
