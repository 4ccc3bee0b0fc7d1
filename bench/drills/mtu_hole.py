"""A path that swallows large packets: handshakes pass, data never arrives, and hardly a rate shows it."""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._tools import named_python, running, scratch, sh

SERVER = """
import socket, threading
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("10.77.0.2", 9977)); s.listen(64)
while True:
    c = s.accept()[0]
    threading.Thread(target=lambda c=c: [None for _ in iter(lambda: c.recv(65536), b"")], daemon=True).start()
"""
CLIENT = """
import socket, time
while True:
    try:
        s = socket.create_connection(("10.77.0.2", 9977), 5)
        s.settimeout(60)
        while True:
            s.sendall(b"x" * 20000)
            time.sleep(0.02)
    except OSError:
        time.sleep(0.3)
"""
RULES = ("add table inet path; add chain inet path in { type filter hook input priority -300; }; "
         "add rule inet path in meta length > 1300 drop")


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """A namespace at the other end of a veth pair that takes no packet above 1,300 bytes."""
    inside = ("ip", "netns", "exec", "farside")
    with scratch() as folder, _namespace():
        for command in ("ip addr add 10.77.0.2/24 dev far0", "ip link set far0 up"):
            sh(*inside, *command.split())
        sh(*inside, "nft", RULES)
        with running([*inside, *named_python(folder, "mediastore", SERVER)], named_python(folder, "uploader", CLIENT)):
            yield


@contextlib.contextmanager
def _namespace() -> Iterator[None]:
    sh("ip", "netns", "add", "farside")
    try:
        sh("ip", "link", "add", "near0", "type", "veth", "peer", "name", "far0", "netns", "farside")
        sh("ip", "addr", "add", "10.77.0.1/24", "dev", "near0")
        sh("ip", "link", "set", "near0", "up")
        yield
    finally:
        sh("ip", "netns", "del", "farside")


DRILL = Drill("mtu_hole", "connection_stalled", ("10.77.0.2",), inject, 40.0, needs=("ip", "nft"))
