"""What property tests share."""

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def outcome(call: Callable[[], T], *kinds: type[Exception], says: str = "") -> T | None:
    """What the call gives; None where it refuses by one of `kinds`, in words among which `says` is."""
    try:
        return call()
    except kinds as error:
        said = str(error)
    assert said
    assert says in said
    return None
