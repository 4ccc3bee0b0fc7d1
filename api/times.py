"""Moments as people and programs write them."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

NS = 1_000_000_000
EPOCH = datetime.fromtimestamp(0, UTC)
_AGO = re.compile(r"-(\d+(?:\.\d+)?)([smhd])")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
ZERO_TIME = "0001-01-01T00:00:00Z"
"""How Alertmanager writes "not yet"."""


def parse_time(text: str, now_ns: int) -> int:
    """Nanoseconds since 1970 of "now", "-15m", "1763712000" (s, ms or ns by size) or "2026-11-21T07:00:00Z".

    A date without a zone is UTC. Raises ValueError naming the forms.
    """
    text = text.strip()
    if text == "now":
        return now_ns
    if ago := _AGO.fullmatch(text):
        return now_ns - int(float(ago[1]) * _UNIT_S[ago[2]] * NS)
    try:
        if re.fullmatch(r"\d{1,20}(\.\d+)?", text):
            return _from_number(text)
        moment = datetime.fromisoformat(text)
        since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - EPOCH
        return since // timedelta(microseconds=1) * 1000  # a float of seconds has no room for microseconds
    except (ValueError, OverflowError):
        forms = "now, -15m, seconds since 1970, or 2026-11-21T07:00:00Z"
        raise ValueError(f"{text[:40]!r} is no time; write {forms}") from None


def _from_number(text: str) -> int:
    number = Decimal(text)
    if number >= 10**16:
        return int(number)
    return int(number * (NS // 1000 if number >= 10**11 else NS))


def rfc3339(t_ns: int) -> str:
    """UTC with nanoseconds, trailing zeros cut, as Go prints it: 2026-11-21T07:00:00.5Z."""
    seconds, rest = divmod(t_ns, NS)
    fraction = f".{rest:09d}".rstrip("0").rstrip(".")
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}{fraction}Z"
