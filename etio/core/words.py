"""Durations, amounts and names in the sentences that go with a score or an alert."""

import unicodedata
from math import isinf, isnan

_STEPS = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))
_SUFFIX = {"seconds": " s", "1": "", "1/s": "/s", "celsius": " °C", "watts": " W"}
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def duration(seconds: float) -> str:
    """A stretch of time with its unit, two figures.

    >>> duration(43 * 60), duration(5400), duration(8), duration(float("inf"))
    ('43 min', '1.5 h', '8 s', 'never')
    """
    if isinf(seconds):
        return "never"
    size, unit = next(((s, u) for s, u in _STEPS if seconds >= 1.0 * s), (1.0, "s"))
    return f"{figure(seconds / size)} {unit}"


def between(low: float, high: float) -> str:
    """Two stretches of time as a range.

    >>> between(38 * 60, 51 * 60), between(3000, 5400)
    ('38 to 51 min', '50 min to 1.5 h')
    """
    first, second = duration(low), duration(high)
    return f"{first.split()[0] if first.split()[1:] == second.split()[1:] else first} to {second}"


def figure(value: float) -> str:
    """A number with two figures, more where it is whole.

    >>> figure(1.523), figure(43.2), figure(0.123), figure(1234.5)
    ('1.5', '43', '0.12', '1,234')
    """
    if abs(value) >= 9.95:
        return f"{value:,.0f}"
    return f"{value:.1f}".removesuffix(".0") if abs(value) >= 0.995 else f"{value:.2g}"


def amount(value: float, unit: str) -> str:
    """A value in its unit.

    >>> amount(0.914, "ratio"), amount(3 * 2**20, "bytes/s"), amount(0.0042, "seconds"), amount(12, "1/s")
    ('91 %', '3 MiB/s', '4.2 ms', '12/s')
    """
    if isnan(value):
        return "unknown"
    if unit == "ratio":
        return f"{figure(100 * value)} %"
    if unit.startswith("bytes"):
        size, step = value, 0
        while abs(size) >= 1024 and step < len(_BINARY) - 1:
            size, step = size / 1024, step + 1
        return f"{figure(size)} {_BINARY[step]}{unit[5:]}"
    if unit == "seconds" and value:
        small = next(((f, u) for f, u in ((1.0, "s"), (1e3, "ms"), (1e6, "us")) if abs(value) * f >= 1), (1e6, "us"))
        return f"{figure(value * small[0])} {small[1]}"
    return figure(value) + _SUFFIX.get(unit, f" {unit}")


def clean(text: str, limit: int = 80) -> str:
    """A name from outside, fit to be shown in one line: no control, format or private characters, bounded length.

    >>> clean("a\\x1b[31m\\nb\\u202e")
    'a [31m b'
    """
    kept = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in text)
    line = " ".join(kept.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def visible(text: str) -> str:
    """A line for a log or a terminal, spaces as they are: what would steer a terminal or begin a line is a "?".

    >>> visible("a  b\\x1b[31m\\nERROR forged\\u202e\\udcff")
    'a  b?[31m?ERROR forged??'
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)
