"""Listening TCP sockets of this network namespace: port, address and inode.

Reads:  NETLINK_SOCK_DIAG (0.1 ms); /proc/net/tcp{,6}, which take milliseconds as the kernel walks its table of all
        connections, only where sock_diag does not answer and for a recorded host
Source: sock_diag(7), proc(5); net/ipv4/tcp_ipv4.c (tcp4_seq_show: the table begins with the listening hash)
"""

import re
from dataclasses import dataclass

from collector.sockdiag import LISTEN as LISTENING
from collector.sockdiag import Found, SockDiag
from etio.core.errors import Broken, NoData

LISTEN = b"0A"
CHUNK = 32768
MOST = 1 << 20
_ADDRESS = re.compile(rb"([0-9A-Fa-f]{8}|[0-9A-Fa-f]{32}):([0-9A-Fa-f]{4})")
ANY4, ANY6 = "0" * 8, "0" * 32
LOCALHOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Listening:
    """One listening TCP socket. host: where to connect to, on this host. anywhere: it listens on every address."""

    port: int
    host: str
    inode: int
    anywhere: bool = False

    @property
    def loopback(self) -> bool:
        """Whether only this host reaches it."""
        return not self.anywhere and (self.host.startswith("127.") or self.host in ("[::1]", "[0:0:0:0:0:0:0:1]"))


def listeners(proc: str) -> list[Listening]:
    """Every listening socket. proc: "/proc", or that folder of a recorded host."""
    if proc == "/proc":
        try:
            with SockDiag() as kernel:
                return [_listening(one) for one in kernel.dump(LISTENING)[0]]
        except (NoData, Broken):
            pass  # a kernel without inet_diag: the slow way tells the same
    return [one for name in ("tcp", "tcp6") for one in _slowly(f"{proc}/net/{name}")]


def _listening(one: Found) -> Listening:
    host = one.local_text.rpartition(":")[0]
    anywhere = host.strip("[]*") in ("", "0.0.0.0", "::")
    return Listening(one.local_port, LOCALHOST if anywhere else host, one.inode, anywhere)


def _slowly(path: str) -> list[Listening]:
    raw, end = b"", False
    try:
        with open(path, "rb", buffering=0) as file:
            while not end and len(raw) < MOST and (more := file.read(CHUNK)):
                raw += more
                end = parse_listening(raw)[1]
    except OSError:
        return []  # no IPv6, or no network namespace to see
    return parse_listening(raw)[0]


def parse_listening(raw: bytes) -> tuple[list[Listening], bool]:
    """Listening sockets of /proc/net/tcp or tcp6 up to the first other one; whether that was reached. Never raises."""
    found: list[Listening] = []
    for line in raw.split(b"\n"):
        fields = line.split()
        if len(fields) < 10 or not (match := _ADDRESS.fullmatch(fields[1])):
            continue
        if fields[3] != LISTEN:
            return found, True
        if fields[9].isdigit():
            at = match[1].decode()
            found.append(Listening(int(match[2], 16), _host(at), int(fields[9][:20]), at in (ANY4, ANY6)))
    return found, False


def _host(digits: str) -> str:
    """The address in words of the kernel's byte order (32-bit words, little endian) as one connects to it."""
    if digits in (ANY4, ANY6):
        return LOCALHOST
    words = [bytes.fromhex(digits[i:i + 8])[::-1] for i in range(0, len(digits), 8)]
    if len(words) == 1:
        return ".".join(str(b) for b in words[0])
    raw = b"".join(words)
    if raw[:12] == b"\0" * 10 + b"\xff\xff":
        return ".".join(str(b) for b in raw[12:])
    groups = [f"{raw[i] << 8 | raw[i + 1]:x}" for i in range(0, 16, 2)]
    return f"[{':'.join(groups)}]"
