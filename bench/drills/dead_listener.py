"""A server that dies while its clients go on: each of their connections is refused at once."""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._tools import named_python, running, scratch

PORT = 18093
SERVER = f"""
import socket, time
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("127.0.0.1", {PORT})); s.listen(64)
end = time.time() + 3
while time.time() < end:
    s.accept()[0].close()
"""
CLIENT = f"""
import socket, time
while True:
    with socket.socket() as s:
        s.connect_ex(("127.0.0.1", {PORT}))
    time.sleep(0.02)
"""


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """Three good seconds, then some forty refused connections a second."""
    with scratch() as folder:
        server, client = named_python(folder, "pricelist", SERVER), named_python(folder, "checkout", CLIENT)
        with running(server, client):
            yield


DRILL = Drill("dead_listener", "connect_failures", (f"127.0.0.1:{PORT}",), inject, 35.0)
