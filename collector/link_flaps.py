"""Whether a network link comes and goes, and what that looks like: how often, since when, how long it was away, who
switches it. Nothing is read before a link has changed; from then on one small file at each look while it is down.

Source: Documentation/ABI/testing/sysfs-class-net (carrier_changes, flags, iflink, master); Cisco and IEEE 802.3ad
practice of flap damping: so many changes within a time, and quiet again only after a time without any.
"""

from collections import deque
from dataclasses import dataclass
from math import isnan
from pathlib import Path

from collector.files import read_once
from collector.table import NAN
from etio.core.errors import Broken, NoData
from etio.core.event import Field
from etio.core.frame import NS

WINDOW_S = 120.0
LEAST = 6
"""Changes of the carrier within the window, that is three times away and back: bringing a link up takes one or two."""
CALM_S = 60.0
"""Without a change for so long a link no longer flaps."""
IFF_UP = 1


@dataclass(frozen=True, slots=True)
class _Look:
    t_ns: int
    changes: float
    down: bool
    switched_off: bool
    lost: float


class Flaps:
    """Of one device. active: it is told to flap, until it has been calm."""

    def __init__(self, folder: Path) -> None:
        self.active = False
        self._folder = folder
        self._looks: deque[_Look] = deque()
        self._count, self._state = NAN, NAN
        self._changed_ns = 0

    def rests(self, count: float) -> bool:
        """Whether there is nothing to take in: it has not changed of late, nor since the last look."""
        return count == self._count and not self._looks and not self.active

    def see(self, t_ns: int, state: float, count: float, lost: float) -> str:
        """Takes one look in: state 1 up, 0 not; count: changes of the carrier so far (NaN where the kernel does not
        count them); lost: packets that could not be sent so far. "begins", "ends" or ""."""
        grown = self._grown(state, count)
        self._count, self._state = count, state
        if grown:
            self._changed_ns = t_ns
        if grown or self._looks:
            self._looks.append(_Look(t_ns, grown, state == 0.0, state == 0.0 and not self._flags() & IFF_UP, lost))
        while self._looks and (t_ns - self._looks[0].t_ns > WINDOW_S * NS or not self._looks[0].changes):
            self._looks.popleft()
        if self.active and t_ns - self._changed_ns >= CALM_S * NS:
            self.active = False
            self._looks.clear()
            return "ends"
        # Told while it is up: what is told as down then gets its end first.
        if not self.active and state == 1.0 and self.changes >= LEAST:
            self.active = True
            return "begins"
        return ""

    @property
    def changes(self) -> float:
        """Of the carrier within the window."""
        return sum(look.changes for look in self._looks)

    def told(self) -> tuple[tuple[str, Field], ...]:
        """What is known of it, as fields of an event."""
        first, last = self._looks[0], self._looks[-1]
        down = sum(look.down for look in self._looks)
        lost = last.lost - first.lost
        fields: list[tuple[str, Field]] = [
            ("changes", int(self.changes)), ("seconds", round((last.t_ns - first.t_ns) / NS)),
            ("down_ratio", round(down / len(self._looks), 2)),
            ("switched_off_ratio", round(sum(look.switched_off for look in self._looks) / max(down, 1), 2)),
            ("unsent_packets", -1 if isnan(lost) else int(max(lost, 0)))]
        return (*fields, *((name, value) for name, value in (("other_end", self._other_end()), (
            "stands_on", self._below()), ("part_of", self._master())) if value))

    def _grown(self, state: float, count: float) -> float:
        if not (isnan(count) or isnan(self._count)):
            return max(0.0, count - self._count)
        return float(not isnan(state) and not isnan(self._state) and state != self._state)

    def _flags(self) -> int:
        try:
            return int(read_once(self._folder / "flags"), 16)
        except (NoData, Broken, ValueError):
            return IFF_UP

    def _other_end(self) -> int:
        """Number of the other device of a pair, in the network namespace that one is in; 0 where there is none."""
        try:
            own, other = (int(read_once(self._folder / name)) for name in ("ifindex", "iflink"))
        except (NoData, Broken, ValueError):
            return 0
        return 0 if other == own or self._below() else other

    def _below(self) -> str:
        """The device that this one stands on, such as that of a VLAN."""
        return next((one.name.removeprefix("lower_") for one in sorted(self._folder.glob("lower_*"))), "")

    def _master(self) -> str:
        try:
            return (self._folder / "master").readlink().name
        except OSError:
            return ""
