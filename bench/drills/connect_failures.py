"""A database behind a firewall that drops the first packet of every connection (network namespaces)."""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._hosts import far_host, filter_there
from bench.drills._tools import named_python, running, scratch

CLIENT = """
import random, socket, threading, time
def work():
    while True:
        try:
            socket.create_connection(('10.79.0.2', 5432), timeout=1.5).close()
        except OSError:
            time.sleep(random.random())
for _ in range(6):
    threading.Thread(target=work).start()
"""


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """The far host's firewall drops SYNs to one port."""
    with far_host("dbhost", "uplink1", "10.79.0") as there, scratch() as folder:
        filter_there(there, "tcp dport 5432 drop")
        with running(named_python(folder, "orders", CLIENT)):
            yield


DRILL = Drill("connect_failures", "connect_failures", ("10.79.0.2:5432",), inject, needs=("ip", "nft"))
