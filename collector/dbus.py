"""A reader of the D-Bus system bus: method calls with strings, their answers as plain values. No library, no threads.

Reads:  /run/dbus/system_bus_socket, or any socket on which the protocol is spoken
Needs:  a message bus; no privilege
Source: D-Bus Specification, "Type system", "Marshaling", "Message protocol", "Authentication protocol"

Only calls that the caller names are made, without starting a service for them. Bytes from the bus are untrusted:
whatever they are, the answer is a value, or one of the typed errors.
"""

import os
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etio.core.errors import Broken, NoData

BUS = "org.freedesktop.DBus"
MOST_BYTES = 8 << 20
"""Longest message that is taken; the list of all units of a big host is half a megabyte."""
MOST_DEPTH = 16
AT_ONCE = 32
"""Calls that are on their way at a time; a bus allows its clients 128 or fewer answers that are due."""
_CALL, _RETURN, _ERROR = 1, 2, 3
_NO_AUTO_START = 2
_FIXED = {"y": ("B", 1), "b": ("I", 4), "n": ("h", 2), "q": ("H", 2), "i": ("i", 4), "u": ("I", 4), "x": ("q", 8),
          "t": ("Q", 8), "d": ("d", 8), "h": ("I", 4)}
_ALIGN = {**{kind: size for kind, (_, size) in _FIXED.items()}, "s": 4, "o": 4, "g": 1, "v": 1, "a": 4, "(": 8,
          "{": 8}


@dataclass(frozen=True, slots=True)
class Call:
    """One method call. body: strings (s), or lists of strings (as)."""

    destination: str
    path: str
    interface: str
    member: str
    body: tuple[str | Sequence[str], ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error that was answered instead of values."""

    name: str
    text: str


Answer = tuple[Any, ...] | Refusal


def encode(call: Call, serial: int) -> bytes:
    """The message of one call, little-endian."""
    body, signature = bytearray(), ""
    for value in call.body:
        if isinstance(value, str):
            signature += "s"
            _put_string(body, value)
        else:
            signature += "as"
            _put_strings(body, value)
    header = bytearray(struct.pack("<BBBBIII", ord("l"), _CALL, _NO_AUTO_START, 1, len(body), serial, 0))
    for code, kind, text in ((1, "o", call.path), (6, "s", call.destination), (2, "s", call.interface),
                             (3, "s", call.member), (8, "g", signature)):
        if text:
            _pad(header, 8)
            header += bytes((code, 1)) + kind.encode() + b"\0"
            if kind == "g":
                header += bytes((len(text),)) + text.encode() + b"\0"
            else:
                _put_string(header, text)
    struct.pack_into("<I", header, 12, len(header) - 16)
    _pad(header, 8)
    return bytes(header + body)


def _pad(data: bytearray, size: int) -> None:
    data += bytes(-len(data) % size)


def _put_string(data: bytearray, value: str) -> None:
    raw = value.encode("utf-8", "replace")
    _pad(data, 4)
    data += struct.pack("<I", len(raw)) + raw + b"\0"


def _put_strings(data: bytearray, values: Sequence[str]) -> None:
    _pad(data, 4)
    at = len(data)
    data += bytes(4)
    for value in values:
        _put_string(data, value)
    struct.pack_into("<I", data, at, len(data) - at - 4)


class Reader:
    """Takes values out of bytes. Raises Broken for what cannot be."""

    def __init__(self, data: bytes, order: str, at: int = 0) -> None:
        """order: "<" or ">"."""
        self._data, self._order, self.at = data, order, at

    def values(self, signature: str) -> tuple[Any, ...]:
        """All values of a signature such as "sa{sv}"; structs and pairs are tuples, arrays lists."""
        found, rest = [], signature
        while rest:
            kind, rest = _first(rest)
            found.append(self._value(kind, 0))
        return tuple(found)

    def align(self, size: int) -> None:
        """Goes on to the next multiple of `size`."""
        self.at += -self.at % size

    def _value(self, kind: str, depth: int) -> Any:
        if depth > MOST_DEPTH:
            raise Broken("D-Bus: values nested too deeply")
        self.align(_ALIGN[kind[0]])
        if kind in _FIXED:
            code, size = _FIXED[kind]
            value = struct.unpack(self._order + code, self._take(size))[0]
            return bool(value) if kind == "b" else value
        if kind == "v":
            inner, rest = _first(self._text("g"))
            if rest:
                raise Broken("D-Bus: a variant of several values")
            return self._value(inner, depth + 1)
        if kind[0] == "a":
            return self._array(kind[1:], depth)
        if kind[0] in "({":
            return self._struct(kind[1:-1], depth)
        return self._text(kind)

    def _array(self, inner: str, depth: int) -> list[Any]:
        (size,) = struct.unpack(self._order + "I", self._take(4))
        self.align(_ALIGN[inner[0]])
        end, found = self.at + size, []
        if end > len(self._data):
            raise Broken("D-Bus: an array beyond the end of its message")
        while self.at < end:
            found.append(self._value(inner, depth + 1))
        if self.at != end:
            raise Broken("D-Bus: an array that is not as long as it says")
        return found

    def _struct(self, inside: str, depth: int) -> tuple[Any, ...]:
        found, rest = [], inside
        while rest:
            kind, rest = _first(rest)
            found.append(self._value(kind, depth + 1))
        return tuple(found)

    def _text(self, kind: str) -> str:
        size = self._take(1)[0] if kind == "g" else struct.unpack(self._order + "I", self._take(4))[0]
        return self._take(size + 1)[:-1].decode("utf-8", "replace")

    def _take(self, size: int) -> bytes:
        at, self.at = self.at, self.at + size
        if self.at > len(self._data):
            raise Broken("D-Bus: a message that ends too early")
        return self._data[at:self.at]


def _first(signature: str, depth: int = 0) -> tuple[str, str]:
    """(first complete type of a signature, the rest). Raises Broken."""
    head = signature[:1]
    if not head or head not in _ALIGN or depth > MOST_DEPTH:
        raise Broken(f"D-Bus: no type in {signature[:20]!r}")
    if head == "a":
        inner, rest = _first(signature[1:], depth + 1)
        return "a" + inner, rest
    if head not in "({":
        return head, signature[1:]
    rest, close, inside = signature[1:], ")" if head == "(" else "}", ""
    while not rest.startswith(close):
        one, rest = _first(rest, depth + 1)
        inside += one
    if not inside:
        raise Broken("D-Bus: an empty struct")
    return head + inside + close, rest[1:]


def length(head: bytes) -> int:
    """Bytes of the whole message that begins with these 16. Raises Broken."""
    order = _order(head)
    body, _, fields = struct.unpack(order + "III", head[4:16])
    total = 16 + fields + -fields % 8 + body
    if total > MOST_BYTES:
        raise Broken(f"D-Bus: a message of {total} bytes")
    return int(total)


def _order(head: bytes) -> str:
    order = {ord("l"): "<", ord("B"): ">"}.get(head[0]) if len(head) >= 16 else None
    if order is None:
        raise Broken("D-Bus: no message")
    return order


def decode(message: bytes) -> tuple[int, Answer] | None:
    """(serial of the call, its answer), or None for what is no answer, such as a signal. Raises Broken."""
    order, kind = _order(message), message[1]
    if kind not in (_RETURN, _ERROR):
        return None
    reader = Reader(message, order, 12)
    fields = {code: value for code, value in reader.values("a(yv)")[0]}
    reader.align(8)
    serial, signature = fields.get(5), fields.get(8, "")
    if not isinstance(serial, int) or not isinstance(signature, str):
        raise Broken("D-Bus: an answer to no call")
    if kind == _ERROR:
        values = reader.values(signature) if signature.startswith("s") else ()
        return serial, Refusal(str(fields.get(4, "")), str(values[0]) if values else "")
    return serial, Reader(message[reader.at:], order).values(signature)


class Bus:
    """A connection to the bus. Not thread-safe."""

    def __init__(self, path: Path, seconds: float = 3.0) -> None:
        """Connects and says hello. Raises NoData where there is no bus, Broken where it does not answer as it should.

        seconds: so long this, and later each round of calls, may take.
        """
        self._seconds = seconds
        self._until = time.monotonic() + seconds
        self._serial = 0
        self._rest = b""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.settimeout(seconds)
            self._socket.connect(str(path))
            self._greet()
        except (FileNotFoundError, ConnectionRefusedError) as error:
            self.close()
            raise NoData(f"{path}: no D-Bus message bus ({error.strerror})") from error
        except OSError as error:
            self.close()
            raise Broken(f"{path}: {error}") from error
        except Broken:
            self.close()
            raise

    def close(self) -> None:
        """May be called twice."""
        self._socket.close()

    def call(self, calls: Sequence[Call]) -> list[Answer]:
        """The answers to these calls, in their order. Raises Broken when one does not come in time; hang up then."""
        self._until = time.monotonic() + self._seconds
        found: list[Answer] = []
        try:
            for at in range(0, len(calls), AT_ONCE):
                found += self._round(calls[at:at + AT_ONCE])
        except OSError as error:
            raise Broken(f"D-Bus: {error}") from error
        return found

    def _greet(self) -> None:
        self._socket.sendall(b"\0AUTH EXTERNAL " + str(os.geteuid()).encode().hex().encode() + b"\r\n")
        while b"\r\n" not in self._rest and len(self._rest) < 4096:
            self._receive()
        line, _, self._rest = self._rest.partition(b"\r\n")
        if not line.startswith(b"OK "):
            raise Broken(f"D-Bus: the bus does not let us in: {line[:60]!r}")
        self._socket.sendall(b"BEGIN\r\n")
        (answer,) = self._round([Call(BUS, "/org/freedesktop/DBus", BUS, "Hello")])
        if isinstance(answer, Refusal):
            raise Broken(f"D-Bus: {answer.name} {answer.text}"[:200])

    def _round(self, calls: Sequence[Call]) -> list[Answer]:
        serials = range(self._serial + 1, self._serial + 1 + len(calls))
        self._serial = serials[-1]
        self._socket.sendall(b"".join(encode(call, serial) for call, serial in zip(calls, serials, strict=True)))
        answers: dict[int, Answer] = {}
        messages = self._messages()
        while len(answers) < len(calls):
            told = decode(next(messages))
            if told is not None and told[0] in serials:
                answers[told[0]] = told[1]
        return [answers[serial] for serial in serials]

    def _messages(self) -> Iterator[bytes]:
        while True:
            while len(self._rest) < 16 or len(self._rest) < length(self._rest[:16]):
                self._receive()
            size = length(self._rest[:16])
            message, self._rest = self._rest[:size], self._rest[size:]
            yield message

    def _receive(self) -> None:
        left = self._until - time.monotonic()
        if left <= 0:
            raise Broken(f"D-Bus: no answer within {self._seconds:g} s")
        self._socket.settimeout(left)
        try:
            data = self._socket.recv(1 << 16)
        except TimeoutError:
            raise Broken(f"D-Bus: no answer within {self._seconds:g} s") from None
        if not data:
            raise Broken("D-Bus: the bus hung up")
        self._rest += data
