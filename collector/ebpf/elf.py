"""Where functions are in an ELF file: offsets of exported symbols, found by the file's own hash table.

Standard library only. The file is whatever some process mapped, so nothing of it is believed: every number is checked
against the file's size, and what is wrong ends as ElfError.
"""

import struct
from collections.abc import Iterable
from typing import NamedTuple, Protocol

_SYMTAB, _DYNSYM, _GNU_HASH = 2, 11, 0x6FFFFFF6
_LOAD, _EXECUTABLE, _FUNC = 1, 1, 2
_SECTIONS, _SEGMENTS, _SYMBOLS, _CHAIN = 512, 512, 300_000, 4096
"""Most of each that is read."""


class ElfError(ValueError):
    """No 64-bit little-endian ELF file, or a damaged one."""


class Bytes(Protocol):
    """A file's content: bytes, or a map of it."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> bytes: ...

    def find(self, what: bytes, start: int, /) -> int:
        """As bytes.find()."""


class _Section(NamedTuple):
    kind: int
    offset: int
    size: int
    link: int


class Elf:
    """One file; `data` stays in use."""

    def __init__(self, data: Bytes) -> None:
        """Raises ElfError."""
        self._data = data
        if data[:6] != b"\x7fELF\x02\x01":
            raise ElfError("no 64-bit little-endian ELF file")
        segments, sections = self._unpack("<QQ", 32)
        segment_size, segment_count, section_size, section_count = self._unpack("<HHHH", 54)
        if segment_count > _SEGMENTS or section_count > _SECTIONS:
            raise ElfError(f"{segment_count} segments, {section_count} sections")
        self._loads = [load for i in range(segment_count) if (load := self._load(segments + i * segment_size))]
        self._sections = [self._section(sections + i * section_size) for i in range(section_count)]

    def functions(self, names: Iterable[str]) -> dict[str, int]:
        """Offset in the file of each of these functions that the file defines: dynamic symbols first, else all."""
        wanted = {name.encode() for name in names}
        found: dict[bytes, int] = {}
        hashes = [s for s in self._sections if s.kind == _GNU_HASH]
        for section in self._sections:
            if section.kind == _DYNSYM and hashes:
                found |= {n: at for n in wanted if (at := self._by_hash(hashes[0], section, n)) is not None}
            elif section.kind in (_DYNSYM, _SYMTAB) and not found:
                found |= self._by_search(section, wanted)
        return {name.decode(): at for name, at in found.items()}

    def _unpack(self, form: str, offset: int) -> tuple[int, ...]:
        try:
            return struct.unpack(form, self._data[offset:offset + struct.calcsize(form)])
        except (struct.error, OverflowError, ValueError) as error:
            raise ElfError(f"cut off at {offset}") from error

    def _load(self, at: int) -> tuple[int, int, int] | None:
        """(address, offset, size) of an executable segment that is loaded."""
        kind, flags, offset, address, _, size = self._unpack("<IIQQQQ", at)
        return (address, offset, size) if kind == _LOAD and flags & _EXECUTABLE else None

    def _section(self, at: int) -> _Section:
        _, kind, _, _, offset, size, link = self._unpack("<IIQQQQI", at)
        return _Section(kind, offset, size, link)

    def _symbol(self, table: _Section, index: int, name: bytes) -> int | None:
        """Offset of the index-th symbol if it is a function of that name that is defined here."""
        if index * 24 + 24 > table.size or table.link >= len(self._sections):
            return None
        text, info, _, section, value, _ = self._unpack("<IBBHQQ", table.offset + 24 * index)
        start = self._sections[table.link].offset + text
        if info & 15 != _FUNC or section == 0 or self._data[start:start + len(name) + 1] != name + b"\0":
            return None
        return next((value - a + o for a, o, size in self._loads if a <= value < a + size), None)

    def _by_hash(self, hashes: _Section, table: _Section, name: bytes) -> int | None:
        buckets, first, bloom, _ = self._unpack("<IIII", hashes.offset)
        if not buckets:
            return None
        value = 5381
        for byte in name:
            value = (value * 33 + byte) & 0xFFFFFFFF
        start = hashes.offset + 16 + 8 * bloom
        (index,) = self._unpack("<I", start + 4 * (value % buckets))
        if index < first:
            return None
        chain = start + 4 * buckets
        for i in range(index, index + _CHAIN):
            (other,) = self._unpack("<I", chain + 4 * (i - first))
            if other | 1 == value | 1 and (at := self._symbol(table, i, name)) is not None:
                return at
            if other & 1:
                break
        return None

    def _by_search(self, table: _Section, wanted: set[bytes]) -> dict[bytes, int]:
        """Goes through a table without a hash of its own, such as that of a program linked statically."""
        if table.link >= len(self._sections) or table.size // 24 > _SYMBOLS:
            return {}
        texts = self._sections[table.link]
        places = {}
        for name in wanted:
            at = self._data.find(b"\0" + name + b"\0", texts.offset)
            if 0 <= at < texts.offset + texts.size:
                places[at + 1 - texts.offset] = name
        if not places:
            return {}
        found = {}
        for i in range(table.size // 24):
            (text,) = self._unpack("<I", table.offset + 24 * i)
            if text in places and (offset := self._symbol(table, i, places[text])) is not None:
                found[places[text]] = offset
        return found
