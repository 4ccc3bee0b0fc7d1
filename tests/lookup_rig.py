"""A host whose programs wait for answers of a name server."""

from pathlib import Path

from collector.lookups import COLLECTOR, Lookups

LINE = "  7: 0100000A:{:04X} {}:{} 01 00000000:{:08X} 00:00000000 00000000     0        0 {} 2 0000 0\n"
SERVER = "3500000A"
"""10.0.0.53 as the kernel writes it."""


def put(root: Path, *inodes: int, server: str = SERVER, port: str = "0035", unread: int = 0) -> None:
    (root / "proc/net").mkdir(parents=True, exist_ok=True)
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc/resolv.conf").write_text("# mine\nnameserver 10.0.0.53\noptions rotate\nnameserver 10.0.0.54\n")
    lines = "".join(LINE.format(30000 + i, server, port, unread, i) for i in inodes)
    (root / "proc/net/udp").write_text("  sl  local_address rem_address\n" + lines)


def opened(root: Path) -> Lookups:
    """The collector on that host; every socket is one of process 4711."""
    put(root)
    one = Lookups(COLLECTOR.config())
    one.owners = lambda inodes: dict.fromkeys(inodes, 4711)
    one.open(root)
    return one
