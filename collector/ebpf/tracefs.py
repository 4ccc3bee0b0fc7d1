"""Classic tracepoints as tracefs describes them: ids, fields and symbolic names. Standard library only."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOTS = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
_FIELD = re.compile(r"^\s*field:(?P<what>[^;]*);\s*offset:(?P<offset>\d+);\s*size:(?P<size>\d+);", re.M)
_NAME = re.compile(r"(\w+)(?:\[[^\]]*\])?\s*$")
_PAIR = re.compile(r'\{\s*(0x[0-9a-fA-F]+|\d+)\s*,\s*"([^"]*)"\s*\}')
_ID = re.compile(r"^ID:\s*(\d+)\s*$", re.M)


class FormatError(ValueError):
    """The text is no tracepoint format."""


@dataclass(frozen=True)
class Format:
    """One event. fields: name to (offset, bytes) in the record; symbols: numbers to names of its last symbolic list."""

    id: int
    fields: dict[str, tuple[int, int]]
    symbols: dict[int, str]


def parse_format(text: str) -> Format:
    """Reads a `format` file. Raises FormatError."""
    number = _ID.search(text)
    if number is None:
        raise FormatError("tracepoint format has no ID")
    fields = {}
    for found in _FIELD.finditer(text):
        name = _NAME.search(found["what"])
        if name is None:
            raise FormatError(f"tracepoint field without a name: {found['what']!r}")
        fields[name[1]] = (int(found["offset"]), int(found["size"]))
    _, _, tail = text.rpartition("__print_symbolic(")
    symbols = {int(key, 0): value for key, value in _PAIR.findall(tail)} if "__print_symbolic(" in text else {}
    return Format(int(number[1]), fields, symbols)


def defines(event: str, form: Format) -> list[str]:
    """Compiler flags that tell the C side where the fields are: AT_<event>_<field>, SIZE_<event>_<field>."""
    flags = []
    for field, (offset, size) in form.fields.items():
        flags += [f"-DAT_{event}_{field}={offset}", f"-DSIZE_{event}_{field}={size}"]
    return flags


def find_root() -> Path | None:
    """Where tracefs is mounted, or None."""
    return next((Path(root) for root in ROOTS if Path(root, "events").is_dir()), None)
