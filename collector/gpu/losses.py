"""Which GPUs are gone, and which came back; and why a driver that should be there does not work.

Reads:  /proc/driver/nvidia/{version,gpus/*/information}, /dev/nvidia*, /sys/bus/pci/devices/*/{vendor,class,driver}
Source: README of the NVIDIA driver (the /proc interface); Documentation/ABI/testing/sysfs-bus-pci
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from collector.cgroup_files import slurp
from collector.gpu.binding import pci_address
from collector.gpu.placement import names_in, text_in
from collector.gpu.session import Told
from etio.core.event import Field, HostEvent

NVIDIA, DISPLAY = "0x10de", ("0x0300", "0x0302")
"""PCI vendor, and classes of graphics cards and of those without a display."""
UNLISTED = "the driver holds it, NVML does not list it"
_VERSION = re.compile(rb"Kernel Module(?: for \w+)?\s+(\d[\d.]{1,20})")


def entity_of(told: Told) -> str:
    """A GPU as its series call it."""
    return f"gpu={told.index},uuid={told.uuid}" if told.uuid else f"gpu={told.index}"


def pci_field(pci: str) -> tuple[tuple[str, Field], ...]:
    """The address as a field of an event, where it is known."""
    return (("pci", pci),) if pci else ()


@dataclass(frozen=True, slots=True)
class _Gone:
    entity: str
    pci: str
    uuid: str

    def is_(self, told: Told) -> bool:
        """Whether that is the same GPU: a number alone counts only where nothing else was known."""
        if self.pci or self.uuid:
            return told.pci == self.pci != "" or told.uuid == self.uuid != ""
        return self.entity == f"gpu={told.index}"


@dataclass(slots=True)
class Losses:
    """The GPUs that are gone now; each is told once as gpu_lost and once as gpu_back."""

    _gone: list[_Gone] = field(default_factory=list)

    def take(self, told: Iterable[Told], t_ns: int) -> list[HostEvent]:
        """What one round says of each GPU."""
        events = []
        for one in told:
            if one.lost:
                events.append(self._lost(_Gone(entity_of(one), one.pci, one.uuid), one.lost, t_ns))
            elif one.values:
                back = [gone for gone in self._gone if gone.is_(one)]
                events += [HostEvent(t_ns, "gpu_back", gone.entity, pci_field(one.pci), "NVML") for gone in back]
                self._gone = [gone for gone in self._gone if gone not in back]
        return [event for event in events if event is not None]

    def unlisted(self, known: Mapping[str, str], named: Mapping[str, str], t_ns: int) -> list[HostEvent]:
        """GPUs that the driver holds and NVML does not list. known: PCI address to uuid; named: to the entity that
        their series had."""
        events = [self._lost(_Gone(named.get(pci, f"gpu={pci}{',uuid=' + uuid if uuid else ''}"), pci, uuid),
                             UNLISTED, t_ns) for pci, uuid in sorted(known.items())]
        return [event for event in events if event is not None]

    def _lost(self, gone: _Gone, reason: str, t_ns: int) -> HostEvent | None:
        if gone in self._gone:
            return None
        self._gone.append(gone)
        return HostEvent(t_ns, "gpu_lost", gone.entity, (*pci_field(gone.pci), ("reason", reason)), "NVML")


def held_by_driver(root: str) -> dict[str, str]:
    """PCI address to uuid of the GPUs that the driver holds and whose device file is there: a container sees the
    folders of all GPUs of its host, but only the files of its own. GPUs that were excluded by a setting do not count.
    """
    found = {}
    for name in names_in(f"{root}/proc/driver/nvidia/gpus"):
        raw = slurp(f"{root}/proc/driver/nvidia/gpus/{name}/information", 4096) or b""
        rows = {key.strip(): value.strip().decode("ascii", "replace")
                for key, _, value in (line.partition(b":") for line in raw.splitlines())}
        minor, uuid = rows.get(b"Device Minor", ""), rows.get(b"GPU UUID", "")
        excluded = rows.get(b"GPU Excluded", rows.get(b"Blacklisted", "No")) != "No"
        if minor.isdecimal() and not excluded and os.path.exists(f"{root}/dev/nvidia{minor}"):
            found[pci_address(name)] = uuid if re.fullmatch(r"GPU-[0-9a-f-]{36}", uuid) else ""
    return found


def without_driver(root: str) -> list[str]:
    """PCI addresses of NVIDIA GPUs that no driver at all has taken."""
    base = f"{root}/sys/bus/pci/devices"
    return [name for name in names_in(base) if text_in(f"{base}/{name}/vendor") == NVIDIA
            and text_in(f"{base}/{name}/class").startswith(DISPLAY) and not os.path.lexists(f"{base}/{name}/driver")]


def module_version(root: str) -> str:
    """Version of the kernel's part of the driver; "" where it is not loaded."""
    found = _VERSION.search(slurp(f"{root}/proc/driver/nvidia/version", 1024) or b"")
    return found[1].decode("ascii") if found else ""
