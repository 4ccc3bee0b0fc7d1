"""A small reader of BTF, the kernel's own description of its types: member offsets and tracepoint prototypes.

Standard library only. Reads /sys/kernel/btf/vmlinux (the kernel's Documentation/bpf/btf.rst has the format).
"""

import struct
from dataclasses import dataclass

_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM, _FWD, _TYPEDEF = range(1, 9)
_FUNC_PROTO, _VAR, _DATASEC, _DECL_TAG, _ENUM64 = 13, 14, 15, 17, 19
_STEP = {_STRUCT: 12, _UNION: 12, _ENUM: 8, _FUNC_PROTO: 8, _DATASEC: 12, _ENUM64: 12}
_EXTRA = {_INT: 4, _ARRAY: 12, _VAR: 4, _DECL_TAG: 4}
_LAST_KIND = 19
_MAGIC = 0xEB9F
_MAX_DEPTH = 16
_HEADER = struct.Struct("<HBBIIIII")
_TYPE = struct.Struct("<III")


class BtfError(ValueError):
    """The bytes are no BTF, or the wanted type is not in them."""


@dataclass(frozen=True)
class _Type:
    name: str
    kind: int
    count: int
    flag: bool
    size: int
    place: int


class Btf:
    """Types of one BTF blob. Indexing a whole kernel takes about 75 ms."""

    def __init__(self, blob: bytes) -> None:
        try:
            magic, version, _, header, types, type_bytes, strings, string_bytes = _HEADER.unpack_from(blob)
        except struct.error as error:
            raise BtfError(f"BTF header: {error}") from error
        if magic != _MAGIC or version != 1:
            raise BtfError(f"no BTF of version 1: magic {magic:#x}, version {version}")
        self._types = blob[header + types:header + types + type_bytes]
        self._strings = blob[header + strings:header + strings + string_bytes]
        self._places: list[int] = [0]
        self._index()

    def _index(self) -> None:
        """Offsets of all types; ids are positions."""
        types, place, end = self._types, 0, len(self._types)
        unpack = struct.Struct("<4xI").unpack_from
        while place + 12 <= end:
            (info,) = unpack(types, place)
            kind = (info >> 24) & 0x1F
            if not 1 <= kind <= _LAST_KIND:
                raise BtfError(f"BTF type {len(self._places)}: unknown kind {kind}")
            self._places.append(place)
            place += 12 + _EXTRA.get(kind, 0) + _STEP.get(kind, 0) * (info & 0xFFFF)
        if place != end:
            raise BtfError("BTF types are cut off")

    def _name(self, offset: int) -> str:
        end = self._strings.find(b"\0", offset)
        return self._strings[offset:end if end >= 0 else None].decode("utf-8", "replace")

    def _type(self, number: int) -> _Type:
        if not 0 < number < len(self._places):
            raise BtfError(f"BTF type {number} does not exist")
        place = self._places[number]
        name, info, size = _TYPE.unpack_from(self._types, place)
        return _Type(self._name(name), (info >> 24) & 0x1F, info & 0xFFFF, bool(info >> 31), size, place + 12)

    def find(self, name: str, kind: int) -> int:
        """Id of the type of that name and kind. Raises BtfError."""
        at = self._strings.find(b"\0" + name.encode() + b"\0") + 1
        if at <= 0:
            raise BtfError(f"BTF has no name {name}")
        unpack = struct.Struct("<II").unpack_from
        for number in range(1, len(self._places)):
            offset, info = unpack(self._types, self._places[number])
            if offset == at and kind == (info >> 24) & 0x1F:
                return number
        raise BtfError(f"BTF has no type {name}")

    def offset(self, struct_name: str, member: str) -> int:
        """Byte offset of a member, anonymous unions and structs included. Raises BtfError."""
        found = self._member(self.find(struct_name, _STRUCT), member, 0)
        if found is None:
            raise BtfError(f"struct {struct_name} has no member {member}")
        if found % 8:
            raise BtfError(f"{struct_name}.{member} is a bit field")
        return found // 8

    def _member(self, number: int, member: str, depth: int) -> int | None:
        """Bit offset of a member within type `number`, or None."""
        one = self._type(number)
        if depth > _MAX_DEPTH or one.kind not in (_STRUCT, _UNION):
            return None
        for i in range(one.count):
            try:
                name, kind, place = _TYPE.unpack_from(self._types, one.place + 12 * i)
            except struct.error as error:
                raise BtfError("BTF members are cut off") from error
            bits = int(place & 0xFFFFFF if one.flag else place)
            if name and self._name(name) == member:
                return bits
            if not name and (inner := self._member(kind, member, depth + 1)) is not None:
                return bits + inner
        return None

    def enum(self, name: str) -> dict[str, int]:
        """Names and values of an enumeration. Raises BtfError."""
        one = self._type(self.find(name, _ENUM))
        try:
            rows = [struct.unpack_from("<Ii", self._types, one.place + 8 * i) for i in range(one.count)]
        except struct.error as error:
            raise BtfError(f"enum {name} is cut off") from error
        return {self._name(offset): value for offset, value in rows}

    def tracepoint(self, event: str) -> tuple[int, tuple[str, ...]]:
        """Id of typedef btf_trace_<event>, and its arguments after the private one.

        Each argument is "struct *name" for a pointer to a struct, "int" for a plain number, else "?". Raises BtfError.
        """
        number = self.find(f"btf_trace_{event}", _TYPEDEF)
        proto = self._type(self._type(self._type(number).size).size)
        if proto.kind != _FUNC_PROTO:
            raise BtfError(f"btf_trace_{event} is no function pointer")
        pairs = (struct.unpack_from("<II", self._types, proto.place + 8 * i)[1] for i in range(1, proto.count))
        return number, tuple(self._describe(kind) for kind in pairs)

    def _describe(self, number: int) -> str:
        one = self._type(number)
        for _ in range(_MAX_DEPTH):
            if one.kind != _TYPEDEF:
                break
            one = self._type(one.size)
        if one.kind in (_INT, _ENUM):
            return "int"
        if one.kind == _PTR and one.size:
            target = self._type(one.size)
            return f"struct *{target.name}" if target.kind == _STRUCT else "?"
        return "?"
