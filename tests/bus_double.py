"""A message bus with a systemd on it, as far as a reader of units asks: real bytes on a real socket.

The marshalling here is written on its own, not with collector/dbus.py. Units are dictionaries: name, active, sub and
the properties NRestarts, Result, ExecMainCode, ExecMainStatus; a property that is missing is refused.
"""

import contextlib
import socket
import struct
import threading

TYPES = {"NRestarts": "u", "Result": "s", "ExecMainCode": "i", "ExecMainStatus": "i"}


def text(value):
    raw = value.encode()
    return struct.pack("<I", len(raw)) + raw + b"\0"


def padded(data, size):
    return data + bytes(-len(data) % size)


def message(kind, reply_to, signature="", body=b"", error=""):
    fields = b""
    for code, sign, value in ((4, "s", error), (5, "u", reply_to), (8, "g", signature)):
        if value:
            fields = padded(fields, 8) + bytes((code, 1)) + sign.encode() + b"\0"
            own = {"u": lambda v: struct.pack("<I", v), "s": text, "g": lambda v: bytes([len(v)]) + v.encode() + b"\0"}
            fields += own[sign](value)
    head = b"l" + bytes((kind, 1, 1)) + struct.pack("<III", len(body), 7, len(fields))
    return padded(head + fields, 8) + body


def listing(units):
    """Body of a(ssssssouso)."""
    rows = b""
    for unit in units:
        rows = padded(rows, 8)
        for value in (unit["name"], "what it is", "loaded", unit["active"], unit["sub"], "", unit["path"]):
            rows = padded(rows, 4) + text(value)
        rows = padded(rows, 4) + struct.pack("<I", 0)
        for value in ("", "/"):
            rows = padded(rows, 4) + text(value)
    return struct.pack("<II", len(rows), 0) + rows


class FakeBus:
    """Listens below a root directory as a bus would; `units` may be changed at any time."""

    def __init__(self, root, units=()):
        self.units = list(units)
        self.calls, self.silent, self.greeting = [], False, b"OK 1234\r\n"
        (root / "run/systemd/system").mkdir(parents=True)
        (root / "run/dbus").mkdir()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(root / "run/dbus/system_bus_socket"))
        (root / "run/dbus/system_bus_socket").chmod(0o666)
        self._listener.listen(4)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                channel, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(channel,), daemon=True).start()

    def _serve(self, channel):
        with channel, contextlib.suppress(OSError, EOFError), channel.makefile("rb") as stream:
            assert stream.readline().startswith(b"\0AUTH EXTERNAL ")
            channel.sendall(self.greeting)
            if stream.readline() != b"BEGIN\r\n":
                return
            while head := stream.read(16):
                _, _, _, _, size, serial, fields = struct.unpack("<BBBBIII", head)
                rest = stream.read(fields + -fields % 8 + size)
                if not self.silent:
                    channel.sendall(self._answer(serial, rest))

    def _answer(self, serial, rest):
        words = rest.replace(b"\0", b" ").decode("ascii", "replace")
        if "Hello" in words:
            signal = message(4, 0, "s", text("noise"))
            return signal + message(2, serial, "s", text(":1.5"))
        if "ListUnitsByPatterns" in words:
            chosen = [u for u in self.units if ("*.service" in words and u["name"].endswith(".service")
                                                and u["active"] != "inactive") or
                      ("*.service" not in words and u["active"] == "failed")]
            self.calls.append("list")
            return message(2, serial, "a(ssssssouso)", listing(chosen))
        unit = next((u for u in self.units if f"{u['path']} " in words), {})
        name = next(n for n in TYPES if f"{n} " in words)
        self.calls.append(f"{unit.get('name')} {name}")
        if name not in unit:
            return message(3, serial, "s", text("Unknown property"), "org.freedesktop.DBus.Error.UnknownProperty")
        kind = TYPES[name]
        value = text(unit[name]) if kind == "s" else struct.pack("<I" if kind == "u" else "<i", unit[name])
        return message(2, serial, "v", padded(bytes([1]) + kind.encode() + b"\0", 4) + value)
