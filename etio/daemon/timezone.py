"""The local time of this host as a table of offsets: the edge at which time zones become data."""

import os
import zoneinfo
from datetime import UTC as TRUE_UTC
from datetime import datetime, tzinfo
from pathlib import Path

from etio.core.frame import NS
from etio.core.season import UTC, Zone

DAY_S = 86_400
BEFORE_D, AFTER_D = 40, 40
"""Days that the table covers: more than a season is fitted to, and longer than it is believed."""
NONE = (OSError, ValueError, zoneinfo.ZoneInfoNotFoundError)


def is_zone(name: str) -> bool:
    """Whether this host's table of time zones has one of that name."""
    try:
        zoneinfo.ZoneInfo(name)
    except NONE:
        return False
    return True


def host_zone(now_ns: int, name: str = "", root: Path = Path("/")) -> Zone:
    """Offsets around now of the zone of that name; "": of the variable TZ, or else of etc/localtime below `root`.
    UTC where none of these tells."""
    name = name or os.environ.get("TZ", "").removeprefix(":")
    if name:
        return _table(name, zoneinfo.ZoneInfo(name), now_ns) if is_zone(name) else UTC
    path = root / "etc" / "localtime"
    try:
        with path.open("rb") as file:
            zone = zoneinfo.ZoneInfo.from_file(file)
    except NONE:
        return UTC
    return _table(_named(path), zone, now_ns)


def _named(path: Path) -> str:
    """What the link says; "local" where it is a file of its own."""
    target = str(path.resolve())
    return target.split("/zoneinfo/", 1)[1] if "/zoneinfo/" in target else "local"


def _table(name: str, zone: tzinfo, now_ns: int) -> Zone:
    now = now_ns // NS // DAY_S * DAY_S
    days = range(now - BEFORE_D * DAY_S, now + AFTER_D * DAY_S, DAY_S)
    since, offsets = [days[0]], [_offset(zone, days[0])]
    for day in days[1:]:
        if (offset := _offset(zone, day)) != offsets[-1]:
            since.append(_change(zone, day - DAY_S, day))
            offsets.append(offset)
    return Zone(name, tuple(s * NS for s in since), tuple(offsets))


def _change(zone: tzinfo, before: int, after: int) -> int:
    """The second from which the later of two offsets counts."""
    old = _offset(zone, before)
    while after - before > 1:
        middle = (before + after) // 2
        if _offset(zone, middle) == old:
            before = middle
        else:
            after = middle
    return after


def _offset(zone: tzinfo, second: int) -> int:
    ahead = datetime.fromtimestamp(second, TRUE_UTC).astimezone(zone).utcoffset()
    return round(ahead.total_seconds()) if ahead is not None else 0
