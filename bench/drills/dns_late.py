"""A name server that answers, but only after most of a second: whatever needs a name is slow."""

import contextlib
import shlex
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._hosts import far_host
from bench.drills._tools import named_python, running, scratch
from bench.drills.dns_dead import CLIENT

SERVER = """
import socket, threading
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('10.94.0.2', 53))
def answer(question, peer):
    s.sendto(question[:2] + bytes((0x81, 0x83)) + question[4:6] + bytes(6) + question[12:], peer)
while True:
    question, peer = s.recvfrom(1500)
    threading.Timer(0.8, answer, (question, peer)).start()
"""


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """The six threads of the drill dns_dead, with a server that says after 0.8 seconds that there is no such name."""
    with far_host("nsfar", "uplink12", "10.94.0") as there, scratch() as folder:
        settings = folder / "resolv.conf"
        settings.write_text("nameserver 10.94.0.2\n")
        command = shlex.join(named_python(folder, "checkout", CLIENT))
        mounted = f"mount --bind {shlex.quote(str(settings))} /etc/resolv.conf && exec {command}"
        with running([*there, *named_python(folder, "named", SERVER)], ["unshare", "--mount", "sh", "-c", mounted]):
            yield


DRILL = Drill("dns_late", "dns_slow", ("10.94.0.2",), inject, seconds=45, needs=("ip", "unshare"))
