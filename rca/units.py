"""Numbers, moments and names as a person reads them."""

import math
from collections.abc import Callable
from datetime import UTC, datetime

from etio.core import words
from etio.core.frame import NS

clean = words.clean
BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def humanise(value: float, unit: str) -> str:
    """A number with its unit.

    >>> humanise(0.914, "ratio"), humanise(1610612736, "bytes"), humanise(0.0042, "seconds"), humanise(1234.5, "1/s")
    ('91 %', '1.5 GiB', '4.2 ms', '1,234/s')
    >>> humanise(1.755e9, "hertz"), humanise(345e6, "hertz")
    ('1.75 GHz', '345 MHz')
    """
    if math.isnan(value):
        return "unknown"
    if math.isinf(value):
        return "unlimited"
    special = _SPECIAL.get(unit)
    return special(value) if special else f"{_digits(value)}{_suffix(unit)}"


def spoken(value: float, unit: str) -> str:
    """The same within a sentence.

    >>> spoken(1234.5, "1/s"), spoken(0.914, "ratio")
    ('1,234 per second', '91 %')
    """
    told = humanise(value, unit)
    return f"{told.removesuffix('/s')} per second" if unit in ("1/s", "pages/s") and told.endswith("/s") else told


def _suffix(unit: str) -> str:
    fixed = {"1": "", "": "", "1/s": "/s", "celsius": " °C", "watts": " W", "cores": " cores",
             "pages/s": " pages/s", "count": "", "seconds^2": ""}
    return fixed.get(unit, f" {unit}")


def _digits(value: float) -> str:
    size = abs(value)
    if size >= 1e15:
        return f"{value:.3g}"
    if size >= 9.95:
        return f"{round(value):,}"
    if size >= 0.995 or value == round(value, 1):
        return f"{value:.1f}".removesuffix(".0")
    return f"{value:.2g}" if size >= 0.001 else "0"


def _bytes(value: float) -> str:
    size, step = abs(value), 0
    while size >= 1023.5 and step < len(BINARY) - 1:
        size, step = size / 1024, step + 1
    return f"{'-' if value < 0 else ''}{_digits(size)} {BINARY[step]}"


def _seconds(value: float) -> str:
    size = abs(value)
    for limit, factor, unit in ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms"), (120.0, 1.0, "s")):
        if size < limit:
            return f"{_digits(value * factor)} {unit}" if value else "0 s"
    return duration(value)


def _hertz(value: float) -> str:
    return f"{value / 1e9:.2f} GHz" if abs(value) >= 1e9 else f"{_digits(value / 1e6)} MHz"


_SPECIAL: dict[str, Callable[[float], str]] = {
    "cores": lambda v: f"{_digits(v)} {'core' if _digits(v) == '1' else 'cores'}",
    "ratio": lambda v: f"{_digits(v * 100)} %",
    "bytes": _bytes,
    "hertz": _hertz,
    "bytes/s": lambda v: f"{_bytes(v)}/s",
    "KiB/s": lambda v: f"{_bytes(v * 1024)}/s",
    "seconds": _seconds,
    "seconds/s": lambda v: f"{_seconds(v)} per second",
    "s/s": lambda v: f"{_seconds(v)} per second",
}


def duration(seconds: float) -> str:
    """A stretch of time.

    >>> duration(192), duration(4), duration(7260)
    ('3 min 12 s', '4 s', '2 h 1 min')
    """
    if seconds < 0:
        return f"-{duration(-seconds)}"
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


def clock(t_ns: int) -> str:
    """Time of day in UTC; "-" for 0 (unknown).

    >>> clock(1_700_000_000 * 10**9)
    '22:13:20'
    """
    if t_ns <= 0:
        return "-"
    return datetime.fromtimestamp(t_ns / NS, UTC).strftime("%H:%M:%S")


def moment(t_ns: int) -> str:
    """Date and time of day in UTC."""
    return datetime.fromtimestamp(t_ns / NS, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def plural(count: int, noun: str, many: str = "") -> str:
    """A count with its noun.

    >>> plural(1, "process", "processes"), plural(8, "process", "processes"), plural(2, "thread")
    ('1 process', '8 processes', '2 threads')
    """
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"
