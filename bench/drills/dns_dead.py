"""A name server that has gone silent: programs that look names up wait for seconds, with the resolver of the C library.
"""

import contextlib
import shlex
from collections.abc import Iterator

from bench.drills import Drill
from bench.drills._hosts import far_host, filter_there
from bench.drills._tools import named_python, running, scratch

CLIENT = """
import socket, threading
def work(k):
    while True:
        try:
            socket.getaddrinfo('shop%d.example.net' % k, 443)
        except OSError:
            pass
for k in range(6):
    threading.Thread(target=work, args=(k,)).start()
"""


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """Six threads that look names up, with a resolv.conf of their own whose server's firewall drops what comes."""
    with far_host("nshost", "uplink8", "10.90.0") as there, scratch() as folder:
        filter_there(there, "udp dport 53 drop")
        settings = folder / "resolv.conf"
        settings.write_text("nameserver 10.90.0.2\n")
        command = shlex.join(named_python(folder, "checkout", CLIENT))
        mounted = f"mount --bind {shlex.quote(str(settings))} /etc/resolv.conf && exec {command}"
        with running(["unshare", "--mount", "sh", "-c", mounted]):
            yield


DRILL = Drill("dns_dead", "dns_unanswered", ("10.90.0.2",), inject, seconds=45, needs=("ip", "nft", "unshare"))
