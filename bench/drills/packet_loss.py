"""A path between two hosts (network namespaces) that loses one packet in five."""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._hosts import far_host, filter_there
from bench.drills._tools import named_python, running, scratch

SERVER = """
import socket, threading
s = socket.create_server(('10.77.0.2', 9000))
def drain(c):
    while c.recv(65536): pass
while True:
    threading.Thread(target=drain, args=(s.accept()[0],), daemon=True).start()
"""
CLIENT = """
import socket, time
time.sleep(0.5)
while True:
    try:
        with socket.create_connection(('10.77.0.2', 9000), timeout=5) as c:
            while True:
                c.sendall(b'x' * 65536)
                time.sleep(0.01)
    except OSError:
        time.sleep(0.2)
"""


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """The far host's firewall drops 20 % of what comes in."""
    with far_host("farhost", "uplink0", "10.77.0") as there, scratch() as folder:
        filter_there(there, "numgen random mod 100 < 20 drop")
        with running([*there, *named_python(folder, "sinkd", SERVER)], named_python(folder, "shipper", CLIENT)):
            yield


DRILL = Drill("packet_loss", "packet_loss", ("10.77.0.", "uplink0", "shipper"), inject, needs=("ip", "nft"))
