"""A database behind a firewall that drops the first packet of every connection (network namespaces)."""

import contextlib
import subprocess
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._tools import named_python, running, scratch, sh

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
    """veth pair, the far end in a namespace of its own whose firewall drops SYNs to one port."""
    sh("ip", "netns", "add", "dbhost")
    try:
        sh("ip", "link", "add", "uplink1", "type", "veth", "peer", "name", "eth0", "netns", "dbhost")
        sh("ip", "addr", "add", "10.79.0.1/24", "dev", "uplink1")
        sh("ip", "link", "set", "uplink1", "up")
        for words in ("addr add 10.79.0.2/24 dev eth0", "link set eth0 up", "link set lo up"):
            sh("ip", "netns", "exec", "dbhost", "ip", *words.split())
        rules = "table inet t { chain c { type filter hook input priority 0; tcp dport 5432 drop; }; }"
        subprocess.run(["ip", "netns", "exec", "dbhost", "nft", "-f", "-"], input=rules, text=True, check=True,
                       capture_output=True)
        with scratch() as folder, running(named_python(folder, "orders", CLIENT)):
            yield
    finally:
        sh("ip", "netns", "del", "dbhost")


DRILL = Drill("connect_failures", "connect_failures", ("10.79.0.2:5432",), inject, needs=("ip", "nft"))
