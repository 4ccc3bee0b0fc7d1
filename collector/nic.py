"""Network cards: whether the link runs as fast as it did, and what the card itself counts.

Reads:  /sys/class/net/<device>/{speed,duplex,device}; ethtool ioctl (live host only)
Emits:  network_link_full_duplex, network_link_speed_supported_bytes_per_second, network_pause_*, network_paused_*,
        network_{symbol,crc}_errors_*, network_{port_discards,no_receive_buffer,ecn_marked,link_downs}_*,
        network_allowance_exceeded_*; events link_degraded, link_restored
Needs:  a card with hardware behind it; drivers show different counters, see collector/nic_names.py
Source: Documentation/ABI/testing/sysfs-class-net; Documentation/networking/ethtool-netlink.rst; IEEE 802.3x, 802.1Qbb

A link_degraded is told of a link that came up slower than it was since the start, or that runs half duplex; a
link_restored when it is as before or its device has gone. What the kernel counts of all devices is in `links`.
"""

import os
from dataclasses import dataclass, field
from functools import partial
from math import isnan
from pathlib import Path

from collector.ethtool import Ethtool
from collector.files import fault, read_once
from collector.netlink import HARDWARE, MEGABIT_BYTES, SYSFS, parse_speed
from collector.nic_names import COLUMNS as COUNTERS
from collector.nic_names import Counter, understood
from collector.table import NAN, Column, Table, emits, text
from etio.core.errors import Broken, NoData
from etio.core.event import HostEvent
from etio.core.frame import Reading
from etio.core.ports import CollectorSpec
from etio.core.series import Series

_DEVICE = ("device",)
DUPLEX = Column("network_link_full_duplex", "1", "gauge", "1 = both sides may send at once, 0 = half duplex", _DEVICE)
SUPPORTED = Column("network_link_speed_supported_bytes_per_second", "bytes/s", "gauge",
                   "fastest speed the link supports", _DEVICE)


def parse_duplex(data: bytes) -> float:
    """1.0 full, 0.0 half, NaN unknown.

    >>> parse_duplex(b"full\\n")
    1.0
    """
    return {b"full": 1.0, b"half": 0.0}.get(data.strip(), NAN)


@dataclass(slots=True)
class Card:
    """One card. best: fastest speed seen, bytes/s; supported: as its driver says; NaN = unknown."""

    name: str
    best: float = NAN
    supported: float = NAN
    degraded: bool = False
    counters: list[Counter] = field(default_factory=list)
    names: int = -1

    def judge(self, speed: float, duplex: float) -> str:
        """The kind of event that a link of this speed and duplex is; "" for none. Unknown is no reason for either."""
        if isnan(speed):
            return ""
        slower, half = speed < self.best, duplex == 0.0
        self.best = speed if isnan(self.best) else max(self.best, speed)
        if (slower or half) == self.degraded:
            return ""
        self.degraded = slower or half
        return "link_degraded" if self.degraded else "link_restored"

    def event(self, t_ns: int, kind: str, speed: float, duplex: float) -> HostEvent:
        """What happened to the link, with the speeds in Mbit/s."""
        known = {"speed_mbit": speed / MEGABIT_BYTES, "best_mbit": self.best / MEGABIT_BYTES,
                 "supported_mbit": self.supported / MEGABIT_BYTES}
        fields = tuple((k, round(v)) for k, v in known.items() if not isnan(v))
        half = (("duplex", "half"),) if duplex == 0.0 else ()
        return HostEvent(t_ns, kind, f"device={self.name}", (*fields, *half), "/sys/class/net")


@dataclass(frozen=True, slots=True)
class Config:
    """max_devices: most cards followed over the daemon's life."""

    max_devices: int = 64


class Nic:
    """Collector of the network cards."""

    def __init__(self, config: Config) -> None:
        self._most = config.max_devices
        self._table = Table()
        self._cards: dict[str, Card] = {}
        self._ethtool: Ethtool | None = None
        self._folder = Path(SYSFS)

    def open(self, root: Path) -> None:
        """Raises NoData or Broken."""
        self._folder = root / SYSFS
        self._names()
        if root == Path("/"):
            self._ethtool = Ethtool()

    def _names(self) -> list[str]:
        """Devices with hardware behind them."""
        try:
            names = [text(n) for n in sorted(os.listdir(os.fsencode(self._folder)))]
        except OSError as error:
            raise fault(self._folder, error) from error
        return [n for n in names if any(os.path.exists(self._folder / n / mark) for mark in HARDWARE)]

    def collect(self, t_ns: int) -> Reading:
        """One reading. Raises NoData or Broken when the devices cannot be listed."""
        self._table.start()
        names = self._names()
        events = [event for name in names if (event := self._look(t_ns, name)) is not None]
        for name in self._cards.keys() - set(names):
            gone = self._cards.pop(name)
            if gone.degraded:
                events.append(HostEvent(t_ns, "link_restored", f"device={name}", (("removed", 1),), "/sys/class/net"))
        return self._table.reading(tuple(events))

    def _look(self, t_ns: int, name: str) -> HostEvent | None:
        card = self._cards.get(name)
        if card is None:
            if len(self._cards) >= self._most:
                return None
            card = self._cards[name] = Card(name)
        duplex, speed = parse_duplex(self._read(name, "duplex")), self._speed(name)
        if not isnan(duplex) and not isnan(speed):
            self._table.put((name, "duplex"), lambda: [DUPLEX.series(name)], [duplex])
        if self._ethtool is not None:
            self._ask(self._ethtool, card)
        kind = card.judge(speed, duplex)
        return card.event(t_ns, kind, speed, duplex) if kind else None

    def _speed(self, name: str) -> float:
        try:
            return parse_speed(self._read(name, "speed"))
        except (NoData, Broken):
            return NAN

    def _read(self, name: str, file: str) -> bytes:
        try:
            return read_once(self._folder / name / file)
        except (NoData, Broken):
            return b""  # EINVAL: a link that is down has no speed

    def _ask(self, ethtool: Ethtool, card: Card) -> None:
        try:
            if isnan(card.supported):
                card.supported = ethtool.supported(card.name) * MEGABIT_BYTES or NAN
        except (NoData, Broken):
            card.supported = 0.0
        if card.supported > 0:
            self._table.put((card.name, "supported"), lambda: [SUPPORTED.series(card.name)], [card.supported])
        try:
            self._count(ethtool, card)
        except (NoData, Broken):
            card.names = -1  # no counters, or others than before: looked at anew the next time

    def _count(self, ethtool: Ethtool, card: Card) -> None:
        if card.names > 0 and not card.counters:
            return  # a driver whose counters say nothing that is known here
        values = ethtool.values(card.name) if card.names else ()
        if len(values) != card.names:
            card.counters = understood(card.name, ethtool.names(card.name))
            card.names = len(values)
        for one in card.counters:
            count = values[one.place] * one.scale
            if count or not one.quiet:
                self._table.put((card.name, one.column.name, one.values), partial(_series, one), [count])

    def close(self) -> None:
        """May be called twice."""
        if self._ethtool is not None:
            self._ethtool.close()
            self._ethtool = None


def _series(one: Counter) -> list[Series]:
    return [one.column.series(*one.values)]


COLLECTOR = CollectorSpec(
    name="nic", config=Config, build=Nic, reads="/sys/class/net/*/{speed,duplex}, ethtool counters",
    emits=emits((DUPLEX, SUPPORTED, *COUNTERS)), source="Documentation/networking/ethtool-netlink.rst", period_s=10.0,
    slow=True, optional=True,
)
