"""A program that keeps many connections open fills a small table of connection tracking."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from bench.drills import Drill
from bench.drills._hosts import far_host, load_rules
from bench.drills._tools import named_python, running, scratch, sh

MOST = Path("/proc/sys/net/netfilter/nf_conntrack_max")
RULES = """
table inet tracked {{
  chain pre {{ type filter hook prerouting priority raw; iifname != "{0}" notrack; }}
  chain out {{ type filter hook output priority raw; oifname != "{0}" notrack; }}
  chain in {{ type filter hook input priority 0; iifname "{0}" ct state new,established accept; }}
}}
"""
SERVER = """
import resource, socket
resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
s = socket.create_server(('10.86.0.2', 9443), backlog=512)
held = []
while True:
    held.append(s.accept()[0])
"""
CLIENT = """
import resource, socket, time
resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
time.sleep(0.5)
held = []
while True:
    try:
        held.append(socket.create_connection(('10.86.0.2', 9443), timeout=1.0))
        time.sleep(0.003)
    except OSError:
        time.sleep(0.1)
"""


@contextlib.contextmanager
def inject() -> Iterator[None]:
    """Only what goes over our device is tracked, so that nothing else on this machine loses a packet."""
    device, before = "uplink4", MOST.read_text()
    try:
        with far_host("relayhost", device, "10.86.0") as there, scratch() as folder:
            load_rules(RULES.format(device))
            MOST.write_text("1200")
            with running([*there, *named_python(folder, "relayd", SERVER)], named_python(folder, "chatty", CLIENT)):
                yield
    finally:
        MOST.write_text(before)
        with contextlib.suppress(subprocess.CalledProcessError):
            sh("nft", "delete", "table", "inet", "tracked")


DRILL = Drill("conntrack_full", "conntrack_full", ("chatty",), inject, seconds=45, needs=("ip", "nft"))
