"""A link whose other end goes away every few seconds, as with a bad cable; a program sends all the time."""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._hosts import far_host
from bench.drills._tools import named_python, running, scratch

SINK = """
import socket
s = socket.create_server(('10.93.0.2', 8095))
while True:
    c, _ = s.accept()
    while c.recv(65536):
        pass
"""
SENDER = """
import socket, time
time.sleep(0.5)
c = socket.create_connection(('10.93.0.2', 8095))
while True:
    c.sendall(bytes(2000))
    time.sleep(0.02)
"""
CABLE = """
import subprocess, time
while True:
    for state, seconds in (('up', 2.5), ('down', 1.5)):
        subprocess.run(['ip', 'link', 'set', 'eth0', state], check=True)
        time.sleep(seconds)
"""


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """The far end of a veth pair is switched off for 1.5 seconds of every 4."""
    with far_host("store", "uplink11", "10.93.0") as there, scratch() as folder, running(
            [*there, *named_python(folder, "sink", SINK)], named_python(folder, "replica", SENDER),
            [*there, *named_python(folder, "cable", CABLE)]):
        yield


DRILL = Drill("flapping_link", "link_flapping", ("uplink11",), inject, seconds=60, needs=("ip",))
