"""A mail relay that reads none of what it is sent, on a host whose TCP sockets may have little memory."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from bench.drills import Drill
from bench.drills._tools import named_python, running, scratch

LIMIT = Path("/proc/sys/net/ipv4/tcp_mem")
LOW, PRESSURE = 200, 400
"""Pages. The most there may be stays as it is: nobody else on the host loses a segment."""
RELAY = """
import socket, threading, time
listener = socket.create_server(("127.0.0.1", 0), backlog=64)
def send():
    peer = socket.create_connection(listener.getsockname())
    while True:
        peer.sendall(bytes(65536))
for _ in range(30):
    threading.Thread(target=send, daemon=True).start()
held = [listener.accept() for _ in range(30)]
time.sleep(3600)
"""


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """The mark from which on the kernel cuts buffers down is lowered, so that 30 connections are enough."""
    before = LIMIT.read_text()
    most = before.split()[2]
    with scratch() as folder:
        LIMIT.write_text(f"{LOW} {PRESSURE} {most}")
        try:
            with running(named_python(folder, "mail_relay", RELAY)):
                yield
        finally:
            LIMIT.write_text(before)


DRILL = Drill("tcp_memory", "tcp_memory_short", ("mail_relay",), inject)
