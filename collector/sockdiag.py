"""Asks the kernel for TCP sockets of this network namespace, over NETLINK_SOCK_DIAG; needs no privilege.

Source: sock_diag(7); Linux include/uapi/linux/inet_diag.h, include/uapi/linux/tcp.h (struct tcp_info)
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv6Address
from pathlib import Path
from types import TracebackType

from collector.table import NAN
from etio.core.errors import Broken, NoData

NETLINK_SOCK_DIAG = 4
_BY_FAMILY, _DONE, _ERROR = 20, 3, 2
_REQUEST, _DUMP = 0x1, 0x300
_IPPROTO_TCP = 6
_INFO, _SKMEMINFO = 2, 7
_EXTENSIONS = 1 << (_INFO - 1) | 1 << (_SKMEMINFO - 1)
_HEADER = struct.Struct("=IHHII")
_MESSAGE = struct.Struct("=BBBB2s2s16s16sI8s5I")
_ATTRIBUTE = struct.Struct("=HH")
_TIMEOUT_S = 2.0
STATES = ("", "established", "syn_sent", "syn_recv", "fin_wait1", "fin_wait2", "time_wait", "close", "close_wait",
          "last_ack", "listen", "closing", "new_syn_recv")
"""By the kernel's number (include/net/tcp_states.h)."""
LISTEN = 1 << 10
RETRANSMITS = 1
CONNECTED = sum(1 << n for n, name in enumerate(STATES) if name not in ("", "time_wait", "close", "listen"))
"""States of sockets that a process holds and that have a peer, and requests to connect."""


@dataclass(frozen=True, slots=True)
class Details:
    """What only a single question tells. rtt, cwnd (segments), sent_again (segments so far), memory (bytes)."""

    rtt_seconds: float = NAN
    cwnd: float = NAN
    sent_again: float = NAN
    memory_bytes: float = NAN
    drops: float = NAN
    segment_bytes: float = NAN
    """Largest segment that is sent."""
    heard_seconds: float = NAN
    """Since the peer confirmed anything."""


@dataclass(frozen=True, slots=True)
class Found:
    """One socket.

    receive, send: for a listener, connections that wait to be accepted and how many may; else bytes that its program
    has not read and that its peer has not confirmed. retries: times the oldest segment was sent again in vain.
    """

    family: int
    state: int
    retries: int
    identity: bytes
    local: bytes
    local_port: int
    remote: bytes
    remote_port: int
    receive: int
    send: int
    uid: int
    inode: int
    details: Details = Details()
    timer: int = 0
    """What `retries` counts: RETRANSMITS; 4 = questions whether a full receiver has room."""

    @property
    def local_text(self) -> str:
        """Address and port as ss(8) writes them."""
        return address(self.family, self.local, self.local_port)

    @property
    def remote_text(self) -> str:
        """The same of the peer."""
        return address(self.family, self.remote, self.remote_port)


def address(family: int, raw: bytes, port: int) -> str:
    """Address and port for people; IPv4 mapped into IPv6 as IPv4.

    >>> address(2, bytes((10, 0, 0, 2)) + bytes(12), 80)
    '10.0.0.2:80'
    >>> address(10, bytes(16), 22)
    '[::]:22'
    """
    host = host_text(family, raw)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def host_text(family: int, raw: bytes) -> str:
    """Address for people, without a port.

    >>> host_text(10, bytes(10) + b"\\xff\\xff" + bytes((10, 0, 0, 2)))
    '10.0.0.2'
    """
    if family == socket.AF_INET:
        return ".".join(map(str, raw[:4]))
    six = IPv6Address(raw)
    return str(six.ipv4_mapped if six.ipv4_mapped is not None else six)


def parse_messages(data: bytes) -> tuple[list[Found], bool]:
    """(sockets of one datagram, whether the answer ends here).

    Raises NoData where the kernel says there is none such or it cannot answer, Broken for bytes that are no answer.
    """
    found: list[Found] = []
    at = 0
    while at + _HEADER.size <= len(data):
        size, kind, _, _, _ = _HEADER.unpack_from(data, at)
        if size < _HEADER.size or at + size > len(data):
            raise Broken(f"netlink message of {size} bytes in {len(data) - at}")
        body = data[at + _HEADER.size:at + size]
        if kind == _DONE:
            return found, True
        if kind == _ERROR:
            _fail(body)
        if kind == _BY_FAMILY:
            found.append(_socket(body))
        at += size + 3 & ~3
    if at < len(data):
        raise Broken("netlink message is cut off")
    return found, False


def _fail(body: bytes) -> None:
    if len(body) < 4:
        raise Broken("netlink error without a number")
    number = -int.from_bytes(body[:4], "little", signed=True)
    known = os.strerror(number) if number in errno.errorcode else str(number)
    raise NoData(f"sock_diag: {known}")


def _socket(body: bytes) -> Found:
    if len(body) < _MESSAGE.size:
        raise Broken(f"socket of {len(body)} bytes")
    (family, state, timer, retries, local_port, remote_port, local, remote, _, _, _, receive, send, uid, inode
     ) = _MESSAGE.unpack_from(body)
    found = Found(family, state, retries, body[4:52], local, int.from_bytes(local_port), remote,
                  int.from_bytes(remote_port), receive, send, uid, inode, timer=timer)
    if len(body) <= _MESSAGE.size + 16:
        return found
    return replace(found, details=_details(dict(_attributes(body[_MESSAGE.size:]))))


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, at)
        if size < _ATTRIBUTE.size:
            return
        yield kind, data[at + _ATTRIBUTE.size:at + size]
        at += size + 3 & ~3


def _details(attributes: dict[int, bytes]) -> Details:
    info, memory = attributes.get(_INFO, b""), attributes.get(_SKMEMINFO, b"")

    def word(data: bytes, at: int, scale: float = 1.0) -> float:
        return int.from_bytes(data[at:at + 4], "little") * scale if len(data) >= at + 4 else NAN

    used = sum(word(memory, at) for at in (0, 8, 16)) if memory else NAN  # received, in flight, kept for reuse
    return Details(word(info, 68, 1e-6), word(info, 80), word(info, 100), used, word(memory, 32),
                   word(info, 16), word(info, 56, 1e-3))


class SockDiag:
    """One netlink socket; every method raises NoData where the kernel cannot answer, Broken for what is no answer."""

    def __init__(self) -> None:
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG)
        except OSError as error:
            raise NoData(f"sock_diag: {error.strerror}") from error
        self._socket.settimeout(_TIMEOUT_S)

    def __enter__(self) -> "SockDiag":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """May be called twice."""
        self._socket.close()

    def dump(self, states: int, most: int = 1 << 30) -> tuple[list[Found], bool]:
        """(sockets in any of these states, IPv4 and IPv6, whether that was all); stops soon after `most`."""
        found: list[Found] = []
        for family in (socket.AF_INET, socket.AF_INET6):
            self._send(family, states, bytes(48), _REQUEST | _DUMP, 0)
            done = False
            while not done:
                part, done = parse_messages(self._receive())
                found += part
                if len(found) > most and not done:
                    return found[:most], False
        return found, True

    def ask(self, one: Found) -> Found:
        """The same socket now, with its details. Raises NoData where it is gone."""
        self._send(one.family, 0xFFFFFFFF, one.identity, _REQUEST, _EXTENSIONS)
        found, _ = parse_messages(self._receive())
        if not found:
            raise NoData("sock_diag: no answer")
        return found[0]

    def _send(self, family: int, states: int, identity: bytes, flags: int, extensions: int) -> None:
        body = struct.pack("=BBBBI", family, _IPPROTO_TCP, extensions, 0, states) + identity
        try:
            self._socket.send(_HEADER.pack(_HEADER.size + len(body), _BY_FAMILY, flags, 0, 0) + body)
        except OSError as error:
            raise NoData(f"sock_diag: {error}") from error

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(1 << 16)
        except OSError as error:
            raise NoData(f"sock_diag: {error}") from error


def require_live(root: Path) -> None:
    """Raises NoData where the kernel cannot be asked for its sockets, and for a recorded host."""
    if root != Path("/"):
        raise NoData("sockets: only of a live host")
    SockDiag().close()
