"""Network devices of this network namespace: traffic, errors, drops, and whether the link is up.

Reads:  /proc/net/dev, /sys/class/net/<device>/{operstate,carrier,carrier_changes,flags,device}
Emits:  network_*{device}; events link_down, link_up, link_removed, link_flapping, link_settled
Needs:  Linux >= 3.15 for network_carrier_changes_per_second
Source: Documentation/networking/statistics.rst; Documentation/ABI/testing/sysfs-class-net; RFC 2863 (operstate)

A link_down is told only of a device that was up before and is still there: containers take their devices along when
they end. A device that vanishes after its link_down gets a link_removed. A link that is up again is told so once it
has stayed up for 10 seconds; one that comes and goes is told as that (collector/link_flaps.py), no longer each time.
Link speed and queues are read by the collector `netlink`, because those reads can wait for a lock.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path

from collector.files import File, read_once
from collector.link_flaps import IFF_UP, Flaps
from collector.table import NAN, Column, Table, emits, number, numbers, text, whole_lines
from etio.core.errors import Broken, NoData
from etio.core.event import HostEvent
from etio.core.frame import NS, Reading
from etio.core.ports import CollectorSpec
from etio.core.series import labels

SYSFS = "sys/class/net"
_LABELS = ("device",)
_PLACES = (0, 8, 1, 9, 2, 10, 3, 11, 4, 5, 7, 12, 13, 14)
"""Of the columns below in a line of /proc/net/dev: eight numbers of receiving (bytes, packets, errs, drop, fifo, frame,
compressed, multicast), then eight of sending (bytes, packets, errs, drop, fifo, colls, carrier, compressed)."""
TRAFFIC = tuple(
    Column(f"network_{way}_{what}_per_second", "bytes/s" if what == "bytes" else "1/s", "counter", text_, _LABELS)
    for what, text_ in (
        ("bytes", "bytes on the device"), ("packets", "packets on the device"),
        ("errors", "packets that were damaged or could not be handled"),
        ("drops", "packets dropped by the device or its driver for want of room"),
    )
    for way in ("receive", "transmit")
) + tuple(
    Column(f"network_{what}_per_second", "1/s", "counter", text_, _LABELS)
    for what, text_ in (
        ("receive_overruns", "packets lost because the receive ring was full"),
        ("receive_frame_errors", "packets with a bad checksum, length or alignment: cable, optics, port"),
        ("multicast_packets", "multicast packets received"),
        ("transmit_overruns", "packets lost because the transmit queue of the device was full"),
        ("collisions", "collisions: of a link at half duplex"),
        ("transmit_carrier_errors", "packets lost because the carrier went away while they were sent"),
    )
)
UP = Column("network_link_up", "1", "gauge", "1 = can pass packets, 0 = cannot (switched off, no carrier)", _LABELS)
CHANGES = Column("network_carrier_changes_per_second", "1/s", "counter", "times the carrier came or went", _LABELS)
UNSENT = tuple(i for i, c in enumerate(TRAFFIC) if c.name in (
    "network_transmit_errors_per_second", "network_transmit_drops_per_second"))
LOOK_AGAIN_READINGS = 10
"""How often a device that is not followed is looked at again."""
CONFIRM_READINGS = 2
"""A virtual device is told to be down only when it is still there this many readings later."""
STAYS_UP_S = 10.0
"""So long a link that was told to be down must be up until it is told to be up."""


def parse_net_dev(data: bytes) -> list[tuple[bytes, list[float]]]:
    """(device, its numbers in the order of TRAFFIC) of each line; a line that is too short is left out.

    Raises NoData for an empty file, Broken where the two lines of headings are missing.
    """
    if not data:
        raise NoData("empty")
    lines = whole_lines(data)
    if len(lines) < 2 or not lines[1].lstrip().startswith(b"face"):
        raise Broken("the headings are missing")
    rows = []
    for line in lines[2:]:
        name, _, rest = line.rpartition(b":")
        fields = rest.split()
        if len(fields) >= 16 and name:
            rows.append((name.strip(), numbers([fields[i] for i in _PLACES])))
    return rows


def parse_operstate(data: bytes, carrier: bytes) -> float:
    """1.0 up, 0.0 not up, NaN unknown. Many virtual drivers leave operstate at "unknown"; their carrier decides."""
    state = data.strip()
    if state == b"unknown":
        return {b"1": 1.0, b"0": 0.0}.get(carrier.strip(), NAN)
    return NAN if not state else float(state == b"up")


class Device:
    """One network device and the state of its link."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.physical = os.path.exists(folder / "device")
        self._bridge = os.path.exists(folder / "bridge")
        self.state, self.changes = NAN, NAN
        self._folder = folder
        self._files = {n: _optional(folder / n) for n in ("operstate", "carrier", "carrier_changes")}
        self._announced = NAN
        self._down_ns, self._down_readings, self._up_ns = 0, 0, 0
        self.flaps = Flaps(folder)

    def look(self) -> None:
        """Reads state (1 up, 0 not) and changes (of the carrier so far); NaN = unreadable. NoData: it is gone."""
        operstate = self._read("operstate")
        self.state = parse_operstate(operstate, self._read("carrier") if operstate == b"unknown\n" else b"")
        self.changes = number(self._read("carrier_changes"))

    def _read(self, name: str) -> bytes:
        file = self._files[name]
        try:
            return b"" if file is None else file.read()
        except Broken:
            return b""  # EINVAL: `carrier` of a device that is switched off

    def events(self, t_ns: int, traffic: list[float]) -> Sequence[HostEvent]:
        """What the last look() calls for. A bridge is up while any of its ports is: it goes down with the last
        container that stops, and where that is a fault its port has it."""
        if self._bridge:
            return ()
        if self.flaps.rests(self.changes):
            if self.state == self._announced == 1.0:  # as it is nearly always
                self._down_readings = 0
                return ()
            turn = ""
        else:
            turn = self.flaps.see(t_ns, self.state, self.changes, sum(traffic[i] for i in UNSENT))
        return () if isnan(self.state) else tuple(self._turned(t_ns, turn))

    def _turned(self, t_ns: int, turn: str) -> Iterator[HostEvent]:
        if turn == "begins":
            if self.told_down:
                yield self._make(t_ns, "link_up")
            self._announced = 1.0
            yield HostEvent(t_ns, "link_flapping", _entity(self.name), self.flaps.told(), "/sys/class/net")
        elif turn == "ends":
            yield HostEvent(t_ns, "link_settled", _entity(self.name), (), "/sys/class/net")
        event = None if self.flaps.active else self._changed(t_ns)
        if event is not None:
            yield event

    def _changed(self, t_ns: int) -> HostEvent | None:
        """A link_down or link_up that is due."""
        if self.state > 0:
            self._down_readings, self._up_ns = 0, self._up_ns or t_ns
            if self.told_down and t_ns - self._up_ns < STAYS_UP_S * NS:
                return None
            back, self._announced = self.told_down, 1.0
            return self._make(self._up_ns, "link_up") if back else None
        self._up_ns = 0
        if self._announced != 1.0:  # never was up, or is told already
            return None
        if not self._down_readings:
            self._down_ns = t_ns
        self._down_readings += 1
        if not self.physical and self._down_readings <= CONFIRM_READINGS:
            return None
        self._announced = 0.0
        return self._make(self._down_ns, "link_down")

    @property
    def told_down(self) -> bool:
        """Whether a link_down was made that no link_up has followed."""
        return self._announced == 0.0

    def _make(self, t_ns: int, kind: str) -> HostEvent:
        try:
            flags = int(read_once(self._folder / "flags"), 16)
        except (NoData, Broken, ValueError):
            flags = IFF_UP
        fields = (("administratively_up", flags & IFF_UP), ("physical", int(self.physical)))
        return HostEvent(t_ns, kind, _entity(self.name), fields, "/sys/class/net")

    def close(self) -> None:
        """May be called twice."""
        for file in self._files.values():
            if file is not None:
                file.close()


def _optional(path: Path) -> File | None:
    try:
        return File(path)
    except (NoData, Broken):
        return None


def _entity(name: str) -> str:
    return ",".join(f"{k}={v}" for k, v in labels(device=name))


@dataclass(frozen=True, slots=True)
class Config:
    """max_virtual: how many devices without hardware (veth, bridges ...) are followed at most over the daemon's life.
    idle: devices without hardware that are down and never passed a packet, too."""

    max_virtual: int = 64
    idle: bool = False


class Links:
    """Collector of the network devices."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._table = Table()
        self._file: File | None = None
        self._devices: dict[bytes, Device] = {}
        self._virtual: set[bytes] = set()
        self._passed_over: dict[bytes, int] = {}
        self._readings = 0

    def open(self, root: Path) -> None:
        """Raises NoData or Broken."""
        self._file = File(root / "proc/net/dev")
        self._sysfs = root / SYSFS

    def collect(self, t_ns: int) -> Reading:
        """One reading. Raises NoData or Broken."""
        if self._file is None:
            raise NoData("not open")
        self._table.start()
        self._readings += 1
        rows = self._file.parse(parse_net_dev)
        gone = tuple(self._forget_vanished(t_ns, {name for name, _ in rows}))
        return self._table.reading(gone + tuple(self._put_all(t_ns, rows)))

    def _put_all(self, t_ns: int, rows: list[tuple[bytes, list[float]]]) -> Iterator[HostEvent]:
        for name, traffic in rows:
            device = self._devices.get(name) or self._meet(name, traffic)
            if device is None:
                continue
            try:
                device.look()
            except NoData:  # the name went to another device since the files were opened
                self._drop(name)
                continue
            self._put(name, device, traffic)
            yield from device.events(t_ns, traffic)

    def _put(self, name: bytes, device: Device, traffic: list[float]) -> None:
        put = self._table.put
        put(name, lambda: [c.series(device.name) for c in TRAFFIC], traffic)
        if not isnan(device.state):
            put((name, "up"), lambda: [UP.series(device.name)], [device.state])
        if not isnan(device.changes):
            put((name, "changes"), lambda: [CHANGES.series(device.name)], [device.changes])

    def _meet(self, name: bytes, traffic: list[float]) -> Device | None:
        """A device seen for the first time; None where it is not to be followed (yet)."""
        if b"/" in name or name in (b".", b".."):
            return None
        passed_over = self._passed_over.get(name)
        full = len(self._virtual) >= self._config.max_virtual and name not in self._virtual
        resting = passed_over is not None and self._readings - passed_over < LOOK_AGAIN_READINGS
        if resting and (full or not any(traffic)):
            return None
        device = Device(text(name), self._sysfs / text(name))
        if not device.physical and not self._worth_following(name, device, traffic):
            device.close()
            self._passed_over[name] = self._readings
            return None
        self._passed_over.pop(name, None)
        self._devices[name] = device
        return device

    def _worth_following(self, name: bytes, device: Device, traffic: list[float]) -> bool:
        if name not in self._virtual and len(self._virtual) >= self._config.max_virtual:
            return False
        try:
            device.look()
        except NoData:
            return False
        if not self._config.idle and device.state == 0.0 and not any(traffic):
            return False
        self._virtual.add(name)
        return True

    def _forget_vanished(self, t_ns: int, present: set[bytes]) -> Iterator[HostEvent]:
        """Drops devices that are gone; what was told of one, link_down or link_flapping, gets its end."""
        for name in self._devices.keys() - present:
            if self._devices[name].flaps.active:
                yield HostEvent(t_ns, "link_settled", _entity(text(name)), (), "/proc/net/dev")
            if self._devices[name].told_down:
                yield HostEvent(t_ns, "link_removed", _entity(text(name)), (), "/proc/net/dev")
            self._drop(name)
        for name in self._passed_over.keys() - present:
            del self._passed_over[name]

    def _drop(self, name: bytes) -> None:
        self._devices.pop(name).close()

    def close(self) -> None:
        """May be called twice."""
        for name in list(self._devices):
            self._drop(name)
        if self._file is not None:
            self._file.close()
            self._file = None


COLLECTOR = CollectorSpec(
    name="links", config=Config, build=Links, reads="/proc/net/dev, /sys/class/net/*",
    emits=emits((*TRAFFIC, UP, CHANGES)), source="Documentation/networking/statistics.rst",
)
