"""Root that is none: a container without capabilities, or a user namespace with root alone in it.

Source: capabilities(7), user_namespaces(7)
"""

from collections.abc import Sequence
from pathlib import Path

NEEDED = {"CAP_CHOWN": 0, "CAP_SETGID": 6, "CAP_SETUID": 7}
"""What it takes to hand the state folder to another account and to become it, with their bits."""
SELF = Path("/proc/self")
REMEDY = "start etio as an ordinary user instead (in a container: --user 65534), where it runs without eBPF"


def lacking(effective: int) -> list[str]:
    """Names of the needed capabilities that are missing in an effective set."""
    return [name for name, bit in NEEDED.items() if not effective >> bit & 1]


def is_mapped(table: str, number: int) -> bool:
    """Whether a uid or gid exists in the user namespace with this uid_map or gid_map; unreadable text maps nothing."""
    rows: list[Sequence[str]] = [line.split() for line in table.splitlines()]
    return any(int(row[0]) <= number < int(row[0]) + int(row[2]) for row in rows
               if len(row) == 3 and row[0].isdecimal() and row[2].isdecimal())


def barrier(effective: int, uid: int, gid: int, me: Path = SELF) -> str:
    """Why this root cannot become the account, with the remedy; "" where it can, or nobody can tell."""
    if missing := lacking(effective):
        return f"started as root without {', '.join(missing)}, so it cannot give root up; {REMEDY}"
    try:
        maps = [(me / name).read_text() for name in ("uid_map", "gid_map")]
    except OSError:
        return ""
    if not all(is_mapped(table, number) for table, number in zip(maps, (uid, gid), strict=True)):
        return (f"started as root of a user namespace without uid {uid} and gid {gid}, so it cannot give root up; "
                f"{REMEDY}")
    return ""
