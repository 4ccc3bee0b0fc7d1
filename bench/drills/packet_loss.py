"""A path between two hosts (network namespaces) that loses one packet in five."""

import contextlib
import subprocess
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._tools import named_python, running, scratch, sh

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
    """veth pair, the far end in a namespace of its own whose firewall drops 20 % of what comes in."""
    sh("ip", "netns", "add", "farhost")
    try:
        sh("ip", "link", "add", "uplink0", "type", "veth", "peer", "name", "eth0", "netns", "farhost")
        sh("ip", "addr", "add", "10.77.0.1/24", "dev", "uplink0")
        sh("ip", "link", "set", "uplink0", "up")
        for words in ("addr add 10.77.0.2/24 dev eth0", "link set eth0 up", "link set lo up"):
            sh("ip", "netns", "exec", "farhost", "ip", *words.split())
        rules = ("table inet t { chain c { type filter hook input priority 0; "
                 "numgen random mod 100 < 20 drop; }; }")
        subprocess.run(["ip", "netns", "exec", "farhost", "nft", "-f", "-"], input=rules, text=True, check=True,
                       capture_output=True)
        with scratch() as folder, running(
                ["ip", "netns", "exec", "farhost", *named_python(folder, "sinkd", SERVER)],
                named_python(folder, "shipper", CLIENT)):
            yield
    finally:
        sh("ip", "netns", "del", "farhost")


DRILL = Drill("packet_loss", "packet_loss", ("10.77.0.", "uplink0", "shipper"), inject, needs=("ip", "nft"))
