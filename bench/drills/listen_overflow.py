"""A server that accepts a connection now and then, and more clients than its queue has room for."""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._tools import named_python, running, scratch

SERVER = """
import socket, time
s = socket.create_server(('127.0.0.1', 8099), backlog=8)
while True:
    c, _ = s.accept()
    time.sleep(0.7)
    c.close()
"""
CLIENTS = """
import socket, threading, time
def work():
    while True:
        try:
            with socket.create_connection(('127.0.0.1', 8099), timeout=1.2) as c:
                c.settimeout(5)
                c.recv(1)
        except OSError:
            time.sleep(0.05)
time.sleep(0.5)
for _ in range(30):
    threading.Thread(target=work).start()
"""


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """Server and clients under names of their own, on the loopback device."""
    with scratch() as folder, running(
            named_python(folder, "frontdesk", SERVER), named_python(folder, "crowd", CLIENTS)):
        yield


DRILL = Drill("listen_overflow", "listen_overflow", ("frontdesk",), inject)
