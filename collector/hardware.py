"""Hardware: temperatures, fans, clock frequency and throttling, memory and PCIe errors, power, NVMe state.

Reads:  /sys/class/hwmon/*, /sys/class/thermal/thermal_zone*, /sys/devices/system/cpu/cpufreq/policy*,
        /sys/devices/system/cpu/cpu*/thermal_throttle, /sys/devices/system/edac/mc/mc*, /sys/class/powercap/*,
        /sys/bus/pci/devices/*/aer_dev_*, /sys/class/nvme/*/state
Emits:  hardware_*
Needs:  hardware that shows them; a virtual machine has almost none. Power (RAPL): root, since Linux 5.10
Source: Documentation/hwmon/sysfs-interface.rst, driver-api/thermal/sysfs-api.rst, admin-guide/pm/cpufreq.rst,
        admin-guide/ras.rst, power/powercap/powercap.rst, ABI/testing/sysfs-bus-pci-devices-aer_stats

What there is is looked for at the start and once in a while; each file is read alone, so that a sensor that fails costs
nothing but its own series. Reads can take milliseconds (a bus, a firmware call), hence the thread of its own.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from math import isnan
from pathlib import Path

from collector.cgroup_files import slurp
from collector.table import NAN, Column, Table, emits, number, text
from etio.core.errors import NoData
from etio.core.frame import Reading
from etio.core.ports import CollectorSpec
from etio.core.series import Series

_SENSOR = ("chip", "sensor")
TEMPERATURE = Column("hardware_temperature_celsius", "celsius", "gauge", "temperature of a sensor", _SENSOR)
HEADROOM = Column("hardware_temperature_headroom_celsius", "celsius", "gauge", "left to the critical temperature",
                  _SENSOR)
FAN = Column("hardware_fan_revolutions_per_second", "1/s", "gauge", "speed of a fan", _SENSOR)
FREQUENCY = Column("hardware_cpu_frequency_hertz", "hertz", "gauge", "clock frequency, mean of at most 16 policies")
FREQUENCY_RATIO = Column("hardware_cpu_frequency_ratio", "ratio", "gauge", "the same over the highest the CPU can do")
THROTTLES = Column("hardware_cpu_throttles_per_second", "1/s", "counter", "times the CPU throttled itself for heat",
                   ("part",))
MEMORY = Column("hardware_memory_errors_per_second", "1/s", "counter", "memory errors seen by EDAC",
                ("controller", "severity"))
PCIE = Column("hardware_pcie_errors_per_second", "1/s", "counter", "PCIe errors of all devices (AER)", ("severity",))
POWER = Column("hardware_power_watts", "watts", "counter", "power, from the energy counter of a domain (RAPL)",
               ("domain",))
NVME = Column("hardware_nvme_live", "1", "gauge", "1 = the controller works, 0 = it is resetting or dead", ("device",))
COLUMNS = (TEMPERATURE, HEADROOM, FAN, FREQUENCY, FREQUENCY_RATIO, THROTTLES, MEMORY, PCIE, POWER, NVME)
RESCAN_READINGS = 60
_INDEX = re.compile(r"(?:temp|fan)(\d+)_input")
_TOTAL = re.compile(rb"^TOTAL_ERR_\w+ (\d{1,18})$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Config:
    """sensors: most temperatures and fans. policies: most clock domains looked at (each read may interrupt a core).
    pci_devices: most devices whose error counts are read."""

    sensors: int = 128
    policies: int = 16
    pci_devices: int = 32

    def __post_init__(self) -> None:
        if min(self.sensors, self.policies, self.pci_devices) < 0:
            raise ValueError("counts must be at least 0")


@dataclass(frozen=True, slots=True)
class Probe:
    """One file. key: values of the column's labels; files with one column and key are added up. make: its value."""

    path: str
    column: Column
    key: tuple[str, ...]
    make: Callable[[bytes], float]

    def read(self) -> float:
        """The value now, NaN where the sensor does not answer."""
        raw = slurp(self.path, 4096)
        return NAN if raw is None else self.make(raw)

    def series(self) -> list[Series]:
        """For Table.put()."""
        return [self.column.series(*self.key)]


def scaled(by: float) -> Callable[[bytes], float]:
    """A parser of one number times `by`; NaN for what is none.

    >>> scaled(0.001)(b"45000\\n")
    45.0
    """
    return lambda raw: number(raw.strip()) * by


def celsius(raw: bytes) -> float:
    """Millidegrees in degrees; NaN for the absurd values by which boards report a socket without a sensor."""
    value = number(raw.strip()) / 1000.0
    return value if -100.0 < value < 250.0 else NAN


def below(critical: float) -> Callable[[bytes], float]:
    """A parser of millidegrees: degrees left up to `critical`."""
    return lambda raw: critical - celsius(raw)


def aer_total(raw: bytes) -> float:
    """Sum line of an aer_dev_* file; NaN where it is missing."""
    found = _TOTAL.search(raw)
    return float(found[1]) if found else NAN


def is_live(raw: bytes) -> float:
    """State file of an NVMe controller."""
    return float(raw.strip() == b"live") if raw.strip() else NAN


class Hardware:
    """Collector of everything in sysfs that has a temperature, a fan, a clock, or counts errors."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._root = Path("/")
        self._table = Table()
        self._probes: list[Probe] = []
        self._policies: list[tuple[Path, float]] = []
        self._readings = 0

    def open(self, root: Path) -> None:
        """Raises NoData where there is nothing at all, as in most virtual machines."""
        self._root = root
        self._scan()
        if not self._probes and not self._policies:
            raise NoData(f"{root / 'sys'}: no sensors, no error counters, no clock control (usual in virtual machines)")

    def collect(self, t_ns: int) -> Reading:
        """One reading; what does not answer is missing."""
        self._readings += 1
        if self._readings % RESCAN_READINGS == 0:
            self._scan()
        self._table.start()
        values: dict[tuple[str, tuple[str, ...]], float] = {}
        makers: dict[tuple[str, tuple[str, ...]], Callable[[], list[Series]]] = {}
        for probe in self._probes:
            key = (probe.column.name, probe.key)
            values[key] = values.get(key, 0.0) + probe.read()
            makers.setdefault(key, probe.series)
        for key, value in values.items():
            self._table.put(key, makers[key], [value])
        self._frequencies()
        return self._table.reading()

    def close(self) -> None:
        """Nothing is held."""

    def _frequencies(self) -> None:
        pairs = [(_number(path) * 1000.0, most) for path, most in self._policies]
        known = [(now, most) for now, most in pairs if not isnan(now)]
        if known:
            mean = sum(now for now, _ in known) / len(known)
            ratio = sum(now / most for now, most in known) / len(known)
            self._table.put("frequency", lambda: [FREQUENCY.series(), FREQUENCY_RATIO.series()], [mean, ratio])

    def _scan(self) -> None:
        most = self._config
        self._probes = [*islice(self._sensors(), most.sensors), *self._throttles(), *self._memory(),
                        *islice(self._pcie(), 3 * most.pci_devices), *self._power(), *self._nvme()]
        policies = self._found("sys/devices/system/cpu/cpufreq", "policy*")
        step = max(1, -(-len(policies) // most.policies)) if most.policies else 1
        limits = [(p / "scaling_cur_freq", _number(p / "cpuinfo_max_freq") * 1000.0) for p in policies[::step]]
        self._policies = [(path, highest) for path, highest in limits if highest > 0][:most.policies]

    def _found(self, folder: str, pattern: str) -> list[Path]:
        return sorted((self._root / folder).glob(pattern), key=_natural)

    def _sensors(self) -> Iterator[Probe]:
        chips: set[str] = set()
        for chip in self._found("sys/class/hwmon", "hwmon*"):
            name = _name(chip / "name") or chip.name
            label = name if name not in chips else f"{name}-{chip.name}"
            chips.update((name, label))
            for path in sorted(chip.glob("temp*_input"), key=_natural):
                yield from self._temperature(path, (label, _sensor(path)), chip / f"temp{_index(path)}_crit")
            for path in sorted(chip.glob("fan*_input"), key=_natural):
                yield from _probe(path, FAN, (label, _sensor(path)), scaled(1 / 60))
        for zone in self._found("sys/class/thermal", "thermal_zone*"):
            kind = _name(zone / "type") or zone.name
            if kind not in chips:  # most zones are a sensor of hwmon as well
                yield from self._temperature(zone / "temp", (kind, zone.name), zone / "none")

    def _temperature(self, path: Path, key: tuple[str, str], critical: Path) -> Iterator[Probe]:
        yield from _probe(path, TEMPERATURE, key, celsius)
        limit = celsius(slurp(str(critical), 64) or b"")
        if limit > 0:
            yield from _probe(path, HEADROOM, key, below(limit))

    def _throttles(self) -> Iterator[Probe]:
        packages: set[tuple[str, str]] = set()
        for cpu in self._found("sys/devices/system/cpu", "cpu[0-9]*"):
            core = f"{_name(cpu / 'topology/physical_package_id')}/{_name(cpu / 'topology/core_id')}"
            package = core.partition("/")[0]
            for part, thing in (("core", core), ("package", package)):
                if (part, thing) not in packages:
                    packages.add((part, thing))
                    yield from _probe(cpu / f"thermal_throttle/{part}_throttle_count", THROTTLES, (part,), scaled(1))

    def _memory(self) -> Iterator[Probe]:
        for controller in self._found("sys/devices/system/edac/mc", "mc[0-9]*"):
            for file, severity in (("ce_count", "corrected"), ("ue_count", "uncorrected")):
                yield from _probe(controller / file, MEMORY, (controller.name, severity), scaled(1))

    def _pcie(self) -> Iterator[Probe]:
        for device in self._found("sys/bus/pci/devices", "*"):
            for severity in ("correctable", "nonfatal", "fatal"):
                yield from _probe(device / f"aer_dev_{severity}", PCIE, (severity,), aer_total)

    def _power(self) -> Iterator[Probe]:
        for domain in self._found("sys/class/powercap", "*:*"):
            name = f"{_name(domain / 'name') or domain.name} ({domain.name})"
            yield from _probe(domain / "energy_uj", POWER, (name,), scaled(1e-6))

    def _nvme(self) -> Iterator[Probe]:
        for device in self._found("sys/class/nvme", "nvme[0-9]*"):
            yield from _probe(device / "state", NVME, (device.name,), is_live)


def _probe(path: Path, column: Column, key: tuple[str, ...], make: Callable[[bytes], float]) -> Iterable[Probe]:
    return (Probe(str(path), column, key, make),) if os.access(path, os.R_OK) else ()


def _number(path: Path) -> float:
    return number((slurp(str(path), 64) or b"").strip())


def _name(path: Path) -> str:
    """One line that a driver wrote, as a label."""
    words = text(slurp(str(path), 128) or b"").split("\n")[0].strip()
    return "".join(c if c.isprintable() else "?" for c in words)


def _index(path: Path) -> str:
    found = _INDEX.fullmatch(path.name)
    return found[1] if found else ""


def _sensor(path: Path) -> str:
    """The driver's label of a sensor, else the name of its file: temp1, fan2."""
    stem = path.name.removesuffix("_input")
    label = _name(path.with_name(f"{stem}_label"))
    return f"{stem} {label}" if label else stem


def _natural(path: Path) -> list[int | str]:
    """hwmon2 before hwmon10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name)]


COLLECTOR = CollectorSpec(
    name="hardware", config=Config, build=Hardware,
    reads="/sys/class/{hwmon,thermal,powercap,nvme}, cpufreq, EDAC, AER",
    emits=emits(COLUMNS), source="Documentation/hwmon/sysfs-interface.rst", period_s=5.0, slow=True, optional=True,
)
