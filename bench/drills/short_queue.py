"""A shaper in a container's network that lets out a tenth of the datagrams that a program sends."""

import contextlib
import subprocess
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._tools import named_python, running, scratch, sh

SPACE, DEVICE = "parcels", "veth-parcels"
SEND = """
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    s.sendto(bytes(800), ("10.77.9.1", 7777))
    time.sleep(0.002)
"""


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """tbf of 200 kbit/s on the interface of a network namespace, towards the host."""
    sh("ip", "netns", "add", SPACE)
    try:
        sh("ip", "link", "add", DEVICE, "type", "veth", "peer", "name", "eth0", "netns", SPACE)
        sh("ip", "address", "add", "10.77.9.1/24", "dev", DEVICE)
        sh("ip", "link", "set", DEVICE, "up")
        sh("ip", "-n", SPACE, "address", "add", "10.77.9.2/24", "dev", "eth0")
        sh("ip", "-n", SPACE, "link", "set", "eth0", "up")
        sh("tc", "-n", SPACE, "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", "200kbit", "burst", "5kb",
           "limit", "10kb")
        with scratch() as folder, running(["ip", "netns", "exec", SPACE,
                                           *named_python(folder, "label_printer", SEND)]):
            yield
    finally:
        subprocess.run(["ip", "netns", "delete", SPACE], check=False, capture_output=True)
        subprocess.run(["ip", "link", "delete", DEVICE], check=False, capture_output=True)


DRILL = Drill("short_queue", "queue_drops", ("label_printer",), inject, 35.0, needs=("ip", "tc"))
