"""Control: a busy and healthy server of thousands of short connections."""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._hosts import far_host
from bench.drills._tools import named_python, running, scratch

SERVER = """
import socket
s = socket.create_server(('10.88.0.1', 8088), backlog=256)
while True:
    c, _ = s.accept()
    c.recv(512)
    c.sendall(b'HTTP/1.0 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n')
    c.close()
"""
CLIENT = """
import socket, time
time.sleep(0.5)
while True:
    for _ in range(3):
        with socket.create_connection(('10.88.0.1', 8088), timeout=5) as c:
            c.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n')
            while c.recv(512):
                pass
    time.sleep(0.01)
"""


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """Some two hundred requests a second, each over a connection of its own that the server closes first."""
    with far_host("clients", "uplink6", "10.88.0") as there, scratch() as folder, running(
            named_python(folder, "webd", SERVER), [*there, *named_python(folder, "visitors", CLIENT)]):
        yield


DRILL = Drill("control_web", "", (), inject, seconds=60, needs=("ip",))
