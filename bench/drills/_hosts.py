"""Two hosts on one machine: a veth pair whose far end lives in a network namespace of its own."""

import contextlib
import subprocess
from collections.abc import Iterator, Sequence

from bench.drills._tools import sh

SYN = """
import random, socket, struct
def sum16(data):
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff
def syn(source, target, port):
    source, target = socket.inet_aton(source), socket.inet_aton(target)
    head = struct.pack('!HHIIBBHHH', random.randrange(1024, 65535), port, random.getrandbits(32), 0, 5 << 4, 2, 64240,
                       0, 0)
    pseudo = source + target + struct.pack('!BBH', 0, 6, len(head))
    head = head[:16] + struct.pack('!H', sum16(pseudo + head)) + head[18:]
    return struct.pack('!BBHHHBBH4s4s', 0x45, 0, 40, 0, 0, 64, 6, 0, source, target) + head
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
"""
"""Python code for connection requests behind which no socket stands: raw.sendto(syn(...), (target, 0))."""


@contextlib.contextmanager
def far_host(name: str, device: str, network: str, prefix: int = 24) -> Iterator[Sequence[str]]:
    """A second host `name` behind our device `device`: we are .1 of the network ("10.77.0"), it is .2.

    Gives the words to put in front of a command that is to run there; all of it is undone on leaving.
    """
    sh("ip", "netns", "add", name)
    try:
        sh("ip", "link", "add", device, "type", "veth", "peer", "name", "eth0", "netns", name)
        sh("ip", "addr", "add", f"{network}.1/{prefix}", "dev", device)
        sh("ip", "link", "set", device, "up")
        for words in (f"addr add {network}.2/{prefix} dev eth0", "link set eth0 up", "link set lo up"):
            sh("ip", "-n", name, *words.split())
        yield ("ip", "netns", "exec", name)
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):  # sockets that still wait keep a namespace for minutes
            sh("ip", "link", "del", device)
        sh("ip", "netns", "del", name)


def filter_there(there: Sequence[str], rule: str) -> None:
    """One nft rule for what comes in at the far host."""
    load_rules(f"table inet t {{ chain c {{ type filter hook input priority 0; {rule}; }}; }}", there)


def load_rules(rules: str, there: Sequence[str] = ()) -> None:
    """Loads nft rules, here or at a far host; raises CalledProcessError."""
    subprocess.run([*there, "nft", "-f", "-"], input=rules, text=True, check=True, capture_output=True)
