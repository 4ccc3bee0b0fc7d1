"""One GPU as the worker knows it: its handle, what it does not have, and how it is asked."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from collector.gpu.binding import ABSENT, LOST, Lost, describe
from collector.gpu.values import Values


@dataclass(slots=True)
class Card:
    """absent: calls and fields that this GPU does not have; they are never asked again.

    slow: values of the last slow reading, slow_ns: when. lost_ns: since when it does not answer, 0 = it does.
    last_ns: the reading before. seconds: cumulative seconds that are made from single looks. links: the highest number
    of working NVLinks so far; links_up: at the last slow reading, -1 = unknown. limits: values that never change, such
    as the highest clock.
    doing: is told each call before it is made, so that a watcher knows where it hangs.
    """

    index: int
    handle: Any
    uuid: str
    pci: str = ""
    name: str = ""
    doing: Callable[[str], None] = lambda _: None
    absent: set[str | int] = field(default_factory=set)
    slow: Values = field(default_factory=dict)
    slow_ns: int = 0
    lost_ns: int = 0
    last_ns: int = 0
    seconds: Values = field(default_factory=dict)
    counted: set[str] = field(default_factory=set)
    links: int = 0
    links_up: int = -1
    limits: Values = field(default_factory=dict)
    samples: list[Any] = field(default_factory=list)

    def ask(self, nvml: Any, name: str, *arguments: Any, key: str = "") -> Any:
        """The answer of one call; None where this GPU has no such thing (remembered) or nothing to say just now.

        key: under which its absence is remembered, where the name alone is too much. Raises Lost.
        """
        key = key or name
        if key in self.absent:
            return None
        self.doing(f"{name} of GPU {self.index}")
        try:
            return getattr(nvml, name)(self.handle, *arguments)
        except AttributeError:  # this version of nvidia-ml-py does not know the call
            self.absent.add(key)
            return None
        except nvml.NVMLError as error:
            if error.value in LOST:
                raise Lost(describe(error)) from error
            if error.value in ABSENT:
                self.absent.add(key)
            return None
