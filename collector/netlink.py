"""What the kernel tells of network devices only under its configuration lock: link speed and queueing disciplines.

Reads:  /sys/class/net/<device>/speed; rtnetlink RTM_GETQDISC (live host only)
Emits:  network_link_speed_bytes_per_second, network_qdisc_*
Needs:  -
Source: Documentation/ABI/testing/sysfs-class-net; rtnetlink(7); Linux net/sched/sch_api.c

Both can wait while somebody configures the network, hence a thread of its own and a long period.
"""

import os
import socket
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from collector.files import fault, read_once
from collector.rtnetlink import queues
from collector.table import Column, Table, emits, number, text
from etio.core.errors import Broken, NoData
from etio.core.event import HostEvent
from etio.core.frame import Reading
from etio.core.ports import CollectorSpec
from etio.core.series import Series

SYSFS = "sys/class/net"
MEGABIT_BYTES = 1e6 / 8
HARDWARE = ("device", "bonding")
"""What a device with a true speed has in sysfs; veth and bridges make theirs up."""
_LABELS = ("device",)
SPEED = Column("network_link_speed_bytes_per_second", "bytes/s", "gauge", "negotiated speed of the link", _LABELS)
QDISC = (
    Column("network_qdisc_backlog_bytes", "bytes", "gauge", "bytes waiting in the root queueing discipline", _LABELS),
    Column("network_qdisc_drops_per_second", "1/s", "counter", "packets the queueing discipline dropped", _LABELS),
)


def parse_speed(data: bytes) -> float:
    """Bytes per second of /sys/class/net/*/speed, which is in Mbit/s. Raises NoData (-1: unknown) or Broken."""
    speed = number(data.strip())
    if speed in (-1.0, 4294967295.0):
        raise NoData("the driver does not know its speed")
    if not speed > 0:
        raise Broken("no speed")
    return speed * MEGABIT_BYTES


@dataclass(frozen=True, slots=True)
class Config:
    """max_devices: how many devices are followed at most over the daemon's life."""

    max_devices: int = 128


class Netlink:
    """Collector of link speeds and queueing disciplines."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._table = Table()
        self._devices: set[str] = set()
        self._live = False
        self._folder = Path(SYSFS)
        self._told = ""

    def open(self, root: Path) -> None:
        """Raises NoData or Broken."""
        self._folder = root / SYSFS
        self._live = root == Path("/")
        self._names()

    def _names(self) -> list[str]:
        try:
            names = sorted(os.listdir(os.fsencode(self._folder)))
        except OSError as error:
            raise fault(self._folder, error) from error
        return [text(n) for n in names]

    def collect(self, t_ns: int) -> Reading:
        """One reading. Raises NoData or Broken when the devices cannot be listed."""
        self._table.start()
        for name in self._names():
            self._put_speed(name)
        return self._table.reading(self._put_queues(t_ns) if self._live else ())

    def _put_speed(self, name: str) -> None:
        if not any(os.path.exists(self._folder / name / mark) for mark in HARDWARE):
            return
        try:
            speed = parse_speed(read_once(self._folder / name / "speed"))
        except (NoData, Broken):
            return  # EINVAL and -1 are what devices without a link answer
        if self._admit(name):
            self._table.put((name, "speed"), lambda: [SPEED.series(name)], [speed])

    def _admit(self, name: str) -> bool:
        if name not in self._devices and len(self._devices) >= self._config.max_devices:
            return False
        self._devices.add(name)
        return True

    def _put_queues(self, t_ns: int) -> tuple[HostEvent, ...]:
        try:
            figures = queues()
        except (OSError, Broken) as error:
            return self._tell(t_ns, f"rtnetlink: {error}")
        for index, backlog, drops in figures:
            name = _name(index)
            if name and self._admit(name):
                self._table.put((name, "qdisc"), partial(_queue_series, name), [backlog, drops])
        return ()

    def _tell(self, t_ns: int, reason: str) -> tuple[HostEvent, ...]:
        if reason == self._told:
            return ()
        self._told = reason
        return (HostEvent(t_ns, "collector_failed", "collector=netlink", (("reason", reason),), "collector"),)

    def close(self) -> None:
        """Nothing is held open."""


def _name(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return ""


def _queue_series(name: str) -> list[Series]:
    return [c.series(name) for c in QDISC]


COLLECTOR = CollectorSpec(
    name="netlink", config=Config, build=Netlink, reads="/sys/class/net/*/speed, rtnetlink RTM_GETQDISC",
    emits=emits((SPEED, *QDISC)), source="rtnetlink(7)", period_s=30.0, slow=True,
    optional=True,
)
