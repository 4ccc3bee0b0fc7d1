"""Command texts with typed slots. A value from the host is checked and shell-quoted, so that it can never be a command.

Templates belong to us, values do not: process names, control group paths and mount points are chosen by anybody.
"""

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from etio.core.errors import Broken

_SLOT = re.compile(r"\{(\w+)(?::(\w+))?\}")
_ENTITY = {
    "device": re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+!-]{0,63}(/[A-Za-z0-9][A-Za-z0-9._:@+!-]{0,127})?"),
    "cgroup": re.compile(r"/[^/].{0,1023}"),
    "mount": re.compile(r"/.{0,1023}"),
    "pid": re.compile(r"[3-9]|[1-9][0-9]{1,9}"),  # never init, never kthreadd
    "unit": re.compile(r"[A-Za-z0-9:_@][A-Za-z0-9:_.@\\-]{0,254}\.(service|slice|scope)"),
}
_VALUE = re.compile(r"(-(?=[0-9]))?[A-Za-z0-9][A-Za-z0-9 ._:+%/-]{0,119}")
_FORMATS = ("", "us", "percent", "bytes", "period")
VALUES = ("current", "proposed")


@dataclass(frozen=True, slots=True)
class Commands:
    """One action in up to four forms: for a systemd unit, for a plain control group (v1, v2), and for all else."""

    any: str = ""
    unit: str = ""
    v1: str = ""
    v2: str = ""

    def every(self) -> dict[str, str]:
        """The forms that are there."""
        forms = {"any": self.any, "unit": self.unit, "v1": self.v1, "v2": self.v2}
        return {name: text for name, text in forms.items() if text}

    def pick(self, unit: bool, version: int) -> str:
        """Which form fits this entity; "" where the card has none. An unknown version is taken for v2."""
        wanted = (["unit"] if unit else []) + ["v1" if version == 1 else "v2", "any"]
        return next((form for form in wanted if getattr(self, form)), "")


def check_template(template: str, display: bool = False) -> Iterator[str]:
    """Problems of a template: unknown slots and formats, quotes (a quoted value inside quotes would be unquoted)."""
    for name, form in _SLOT.findall(template):
        if name not in _ENTITY and name not in VALUES:
            yield f"unknown slot {{{name}}}"
        if form not in _FORMATS or (form and name not in VALUES):
            yield f"unknown format {{{name}:{form}}}"
    if re.search(r"[{}]", _SLOT.sub("", template)):
        yield "stray brace"
    if display:
        return
    if re.search(r"[\"'`\\\n$]", template):
        yield "quotes, back-slashes, line breaks and $ are not allowed in a command"
    if re.search(r"[();&<>]", template.split("# ", maxsplit=1)[0]):
        yield "( ) ; & < > are not allowed in a command"


def clean_entity(kind: str, value: str) -> str:
    """`value` when it is a well-formed device, cgroup, mount, pid or unit; raises Broken otherwise."""
    if kind == "device":
        value = value.removeprefix("/dev/")
    fits = _ENTITY[kind].fullmatch(value) is not None and value.isprintable()
    if not fits or any(part in ("..", ".") for part in value.split("/")):
        raise Broken(f"{kind} has a name that is not put into a command")
    return value


def clean_value(value: str) -> str:
    """A value of a knob, fit for a command; raises Broken otherwise."""
    if not _VALUE.fullmatch(value):
        raise Broken("the value is not put into a command")
    return value


def render(template: str, slots: Mapping[str, str]) -> str:
    """The command with every slot shell-quoted. slots: "pid", "proposed", "proposed:us" ... already cleaned.

    Raises Broken when a slot has no value.
    """

    def fill(match: re.Match[str]) -> str:
        return shlex.quote(_value(match, slots))

    return _SLOT.sub(fill, template)


def show(template: str, slots: Mapping[str, str]) -> str:
    """A sentence for people with its slots filled in, unquoted; it is escaped where it is drawn."""
    return _SLOT.sub(lambda m: _value(m, slots), template)


def _value(match: re.Match[str], slots: Mapping[str, str]) -> str:
    name = match.group(0)[1:-1]
    if not slots.get(name):
        raise Broken(f"no value for {match.group(0)}")
    return slots[name]
