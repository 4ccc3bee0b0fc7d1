"""A server that forgets to close the connections its clients are done with."""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._tools import named_python, running, scratch

SERVER = """
import socket
s = socket.create_server(('127.0.0.1', 8431), backlog=128)
held = []
while True:
    held.append(s.accept()[0])
"""
CLIENT = """
import socket, time
time.sleep(0.5)
while True:
    try:
        with socket.create_connection(('127.0.0.1', 8431), timeout=2) as c:
            c.sendall(b'hello')
        time.sleep(0.02)
    except OSError:
        time.sleep(0.2)
"""


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """Up to fifty connections a second, none of which the server closes."""
    with scratch() as folder, running(named_python(folder, "invoiced", SERVER), named_python(folder, "tills", CLIENT)):
        yield


DRILL = Drill("close_wait", "close_wait_leak", ("invoiced",), inject, seconds=60)
