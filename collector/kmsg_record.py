r"""Understands one record of /dev/kmsg. Pure: no file, no clock.

Source: Documentation/ABI/testing/dev-kmsg: `prefix,sequence,microseconds,flags[,more];text`, then lines of a dictionary
that begin with a blank, as in ` SUBSYSTEM=block`. The prefix holds the level in its three lowest bits and the facility
above them. Bytes that are not printable, and newlines inside the text, are written as `\xNN`: whatever a message holds,
it can not begin a new record.
"""

import re
from dataclasses import dataclass

from etio.core.errors import Broken

LEVELS = ("emergency", "alert", "critical", "error", "warning", "notice", "info", "debug")
KERNEL = 0
"""Facility of the kernel's own messages. The kernel gives records written from user space another one, always."""
_HEAD = re.compile(rb"(\d{1,10}),(\d{1,20}),(\d{1,20}),([^,;]{1,8})(?:,[^;]*)?\Z")
_ESCAPE = re.compile(rb"\\x([0-9a-fA-F]{2})")


@dataclass(frozen=True, slots=True)
class Record:
    """One record. level: 0 (emergency) to 7 (debug). microseconds: since boot, without time spent suspended.

    fragment: part of a line that was printed in several pieces. text: unescaped; may hold anything.
    fields: (name, value) of the dictionary.
    """

    level: int
    facility: int
    sequence: int
    microseconds: int
    fragment: bool
    text: str
    fields: tuple[tuple[str, str], ...] = ()

    @property
    def from_kernel(self) -> bool:
        """Whether the kernel itself said it; user space can write whatever it likes."""
        return self.facility == KERNEL


def parse_record(raw: bytes) -> Record:
    r"""One record as read(2) gives it. Raises Broken for anything else.

    >>> parse_record(b"3,812,5140900,-;EXT4-fs error (device sda1): a\\x0ab\n SUBSYSTEM=block\n").text
    'EXT4-fs error (device sda1): a\nb'
    """
    head, semicolon, body = raw.partition(b";")
    found = _HEAD.match(head)
    if found is None or not semicolon:
        raise Broken("/dev/kmsg: no record")
    prefix, sequence, microseconds = (int(number) for number in found.groups()[:3])
    text, *rest = body.split(b"\n")
    fields = [line[1:].partition(b"=") for line in rest if line.startswith(b" ")]
    return Record(prefix & 7, prefix >> 3, sequence, microseconds, found[4] != b"-", _plain(text),
                  tuple((_plain(name), _plain(value)) for name, equals, value in fields if equals))


def _plain(raw: bytes) -> str:
    return _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), raw).decode("utf-8", "replace")
