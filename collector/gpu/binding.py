"""The edge to the module pynvml (nvidia-ml-py): starting it, what its errors mean, and numbers that are none.

Numbers of fields and errors are written out where they are used, because the module is imported only by the worker;
a test compares them with the module's.
"""

import math
from typing import Any

from etio.core.errors import Broken, NoData

NAN = math.nan
NS = 1_000_000_000
ABSENT = frozenset({2, 3, 4, 13, 25, 26})
"""Invalid argument, not supported, no permission, function not found, version mismatch, deprecated: asked once."""
LOST = frozenset({15, 16, 28})
"""GPU is lost, reset required, GPU not found."""
NO_DRIVER = frozenset({9, 12})
TIMEOUT = 10
VALUE_NAMES = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
"""Member of the value union by NVML value type."""


class Lost(Exception):
    """The GPU no longer answers."""


def start(given: Any = None) -> Any:
    """Imports and initialises NVML. Raises NoData where package, library or driver are absent, Broken otherwise."""
    nvml = given
    if nvml is None:
        try:
            import pynvml
        except ImportError as error:
            raise NoData("nvidia-ml-py is not installed") from error
        nvml = pynvml
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        if error.value in NO_DRIVER:
            raise NoData(f"no NVIDIA driver ({describe(error)})") from error
        raise Broken(f"NVML: {describe(error)}; is the driver loaded in the version of the library?") from error
    return nvml


def describe(error: Any) -> str:
    """An NVML error in words, with its code."""
    return f"{error} (code {error.value})"


def string(value: str | bytes) -> str:
    """A name from the driver, fit to be shown."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return "".join(c if c.isprintable() else "?" for c in text)[:100]


def number(value: Any, scale: float = 1.0, top: float = math.inf) -> float:
    """An NVML number in our unit; NaN for its "not available" values, negative ones and what passes `top`.

    >>> number(0xFFFFFFFF), number(250_000, 1e-3), number(101, 0.01, 1.0)
    (nan, 250.0, nan)
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return NAN
    if value in (0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF) or not 0 <= value < math.inf:
        return NAN
    return value * scale if value * scale <= top else NAN


def over(part: float, whole: float) -> float:
    """A ratio of 0..1; NaN where it is none."""
    return part / whole if whole > 0 and 0 <= part <= whole else NAN


def pci_address(text: str) -> str:
    """A PCI address as /sys writes it: NVML gives the domain in eight digits, the kernel log leaves the function out.

    >>> pci_address("00000000:3B:00.0"), pci_address("0000:3B:00")
    ('0000:3b:00.0', '0000:3b:00.0')
    """
    domain, _, rest = text.strip().lower().partition(":")
    if not rest:
        return ""
    function = "" if "." in rest else ".0"
    return f"{domain.lstrip('0').rjust(4, '0')}:{rest}{function}"
