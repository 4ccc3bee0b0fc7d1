"""Two hosts on one machine: a veth pair whose far end lives in a network namespace of its own."""

import contextlib
import subprocess
from collections.abc import Iterator, Sequence

from bench.drills._tools import sh


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
        sh("ip", "netns", "del", name)


def filter_there(there: Sequence[str], rule: str) -> None:
    """One nft rule for what comes in at the far host."""
    load_rules(f"table inet t {{ chain c {{ type filter hook input priority 0; {rule}; }}; }}", there)


def load_rules(rules: str, there: Sequence[str] = ()) -> None:
    """Loads nft rules, here or at a far host; raises CalledProcessError."""
    subprocess.run([*there, "nft", "-f", "-"], input=rules, text=True, check=True, capture_output=True)
