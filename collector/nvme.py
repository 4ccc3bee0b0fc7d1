"""Health of NVMe drives as they tell it themselves: spare blocks, wear, media errors, heat, warnings.

Reads:  SMART / Health Information (Get Log Page, log 02h) of each controller in /sys/class/nvme, through the warden;
        model and firmware in /sys/class/nvme/*
Emits:  nvme_*; event nvme_worn
Needs:  a warden (the command takes CAP_SYS_ADMIN); state and temperature without one: see collector/hardware.py
Source: NVM Express Base Specification 2.0, figure "SMART / Health Information Log Page"
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from collector.cgroup_files import shown, slurp
from collector.table import NAN, Column, Table, emits, text
from etio.core.errors import Broken, NoData
from etio.core.event import HostEvent
from etio.core.frame import Reading
from etio.core.ports import CollectorSpec
from etio.core.series import Series

LOG_BYTES = 512
Row = tuple[str, str, str]
"""(controller, health log in hexadecimal, why there is none)."""
REFUSED = "NVMe status"
"""In the reason for a log that the controller does not give: many virtual drives have none."""
STEP = 0.05
_DATA_UNIT = 512_000.0
_ZERO_CELSIUS = 273.0


def _column(name: str, unit: str, kind: str, what: str) -> Column:
    return Column(f"nvme_{name}", unit, "counter" if kind == "counter" else "gauge", what, ("device",))


COLUMNS = (
    _column("spare_warning", "1", "gauge", "1 = fewer spare blocks are left than the drive holds necessary"),
    _column("temperature_warning", "1", "gauge", "1 = hotter or colder than the drive may be"),
    _column("reliability_warning", "1", "gauge", "1 = degraded by media errors or errors of its own"),
    _column("readonly_warning", "1", "gauge", "1 = the drive takes no writes any more"),
    _column("backup_warning", "1", "gauge", "1 = what keeps its cache over a power cut has failed"),
    _column("memory_region_warning", "1", "gauge", "1 = its persistent memory region cannot be relied on"),
    _column("temperature_celsius", "celsius", "gauge", "composite temperature"),
    _column("spare_ratio", "ratio", "gauge", "spare blocks left"),
    _column("spare_threshold_ratio", "ratio", "gauge", "spare blocks below which the drive warns"),
    _column("wear_ratio", "ratio", "gauge", "endurance used, by the maker's estimate; may go beyond 1"),
    _column("read_bytes_per_second", "bytes/s", "counter", "read by the host, all namespaces"),
    _column("written_bytes_per_second", "bytes/s", "counter", "written by the host, all namespaces"),
    _column("powered_seconds", "seconds", "gauge", "time it was powered so far"),
    _column("unsafe_shutdowns", "1", "gauge", "times it lost power without notice so far"),
    _column("media_errors", "1", "gauge", "data that it could not get back so far"),
    _column("media_errors_per_second", "1/s", "counter", "data that it could not get back"),
    _column("error_log_entries", "1", "gauge", "entries of its error log so far, commands it refused included"),
    _column("warning_temperature_ratio", "ratio", "counter", "time above its warning temperature, in whole minutes"),
    _column("critical_temperature_ratio", "ratio", "counter", "time above its critical temperature, in whole minutes"),
    _column("throttled_ratio", "ratio", "counter", "time in which it slowed itself down for heat"),
)


@dataclass(frozen=True, slots=True)
class Health:
    """One health log, in the order and the units of COLUMNS, counters as totals; NaN where the drive says nothing."""

    spare_warning: float
    temperature_warning: float
    reliability_warning: float
    readonly_warning: float
    backup_warning: float
    memory_region_warning: float
    temperature_celsius: float
    spare_ratio: float
    spare_threshold_ratio: float
    wear_ratio: float
    read_bytes: float
    written_bytes: float
    powered_seconds: float
    unsafe_shutdowns: float
    media_errors: float
    media_errors_total: float
    error_log_entries: float
    warning_seconds: float
    critical_seconds: float
    throttled_seconds: float


def parse_health(log: bytes) -> Health:
    """A health log. Raises Broken when it is not 512 bytes long, and nothing else whatever the bytes."""
    if len(log) != LOG_BYTES:
        raise Broken(f"NVMe health log of {len(log)} bytes, not {LOG_BYTES}")
    kelvin, spare, threshold, wear = struct.unpack_from("<HBBB", log, 1)
    unknown = not spare and not threshold  # an emulated drive that has no such notion
    left, least = (NAN, NAN) if unknown else (_percent(spare), _percent(threshold))
    low, heat, weak, readonly, backup, region = (float(log[0] >> bit & 1) for bit in range(6))
    units_read, units_written = _big(log, 32), _big(log, 48)
    _, _, hours, unsafe, media, entries = (_big(log, at) for at in range(96, 192, 16))
    warm, hot = struct.unpack_from("<II", log, 192)
    light, heavy = struct.unpack_from("<II", log, 224)
    return Health(
        max(low, float(left < least)), heat, weak, readonly, backup, region, _celsius(kelvin), left, least,
        wear / 100.0, units_read * _DATA_UNIT, units_written * _DATA_UNIT, hours * 3600.0, unsafe, media, media,
        entries, warm * 60.0, hot * 60.0, float(light + heavy))


def _percent(value: int) -> float:
    """A byte that must lie within 0 and 100."""
    return value / 100.0 if value <= 100 else NAN


def _celsius(kelvin: int) -> float:
    """Whole kelvins in degrees; NaN for none and for the absurd."""
    return kelvin - _ZERO_CELSIUS if 173 < kelvin < 523 else NAN


def _big(log: bytes, at: int) -> float:
    """A counter of 16 bytes."""
    return float(int.from_bytes(log[at:at + 16], "little"))


@dataclass(frozen=True, slots=True)
class Config:
    """drives: most controllers that get series; those beyond are left out. worn_ratio: endurance used from which on
    a drive is worn; a drive that stays so for years must not be an alert for years, so it is told once at this level,
    and again at each twentieth more."""

    drives: int = 64
    worn_ratio: float = 0.9

    def __post_init__(self) -> None:
        if not 1 <= self.drives <= 64:
            raise ValueError("drives must lie between 1 and 64")
        if not 0.1 <= self.worn_ratio <= 2.5:
            raise ValueError("worn_ratio must lie between 0.1 and 2.5")


class Nvme:
    """Collector of NVMe health. Given by the daemon: `source` asks the warden, None while that is busy."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._table = Table()
        self._class = Path("/sys/class/nvme")
        self._latest: dict[str, Health] = {}
        self._silent: dict[str, str] = {}
        self._worn: dict[str, float] = {}
        self.source: Callable[[], Sequence[Row] | None] | None = None

    def open(self, root: Path) -> None:
        """Raises NoData where there is no NVMe drive, or no warden that could ask it."""
        self._class = root / "sys/class/nvme"
        if not any(self._class.glob("nvme[0-9]*")):
            raise NoData(f"{self._class}: no NVMe controller")
        if self.source is None:
            raise NoData("no warden: nobody may ask NVMe drives for their health; "
                         "remedy: start as root, or install the units (etio-warden)")

    def collect(self, t_ns: int) -> Reading:
        """One reading; drives that do not answer are missing. Where none does: raises NoData if they have no such log,
        else Broken."""
        rows = self.source() if self.source is not None else None
        self._table.start()
        if rows is not None:
            self._take(rows[:self._config.drives])
        return self._table.reading(tuple(self._newly_worn(t_ns)) if rows is not None else ())

    def facts(self) -> tuple[tuple[str, str], ...]:
        """For Facts.extra: ("nvme device=nvme0", what it is and how it has lived so far)."""
        told = [(name, self._told(name, health)) for name, health in self._latest.items()]
        told += [(name, f"{self._model(name)}; {reason}") for name, reason in self._silent.items()]
        return tuple((f"nvme device={name}", words) for name, words in sorted(told))

    def close(self) -> None:
        """May be called twice."""
        self._latest, self._silent = {}, {}

    def _take(self, rows: Sequence[Row]) -> None:
        self._latest, self._silent = {}, {}
        for name, log, reason in rows:
            try:
                self._latest[name] = parse_health(bytes.fromhex(log)) if log else _none(reason)
            except (Broken, ValueError) as error:
                self._silent[name] = shown(str(error))[:120]
        for name, health in self._latest.items():
            self._table.put(name, lambda device=name: _series(device), list(astuple(health)))  # type: ignore[misc]
        if rows and not self._latest:
            told = "; ".join(f"{name}: {reason}" for name, reason in self._silent.items())[:400]
            raise NoData(told) if all(REFUSED in reason for reason in self._silent.values()) else Broken(told)

    def _newly_worn(self, t_ns: int) -> Iterator[HostEvent]:
        for name, health in self._latest.items():
            if health.wear_ratio >= self._worn.get(name, self._config.worn_ratio):
                self._worn[name] = round(health.wear_ratio + STEP, 2)
                yield HostEvent(t_ns, "nvme_worn", f"device={name}", (("wear_ratio", health.wear_ratio),),
                                "NVMe health log")

    def _told(self, name: str, health: Health) -> str:
        days, terabytes = health.powered_seconds / 86_400, health.written_bytes / 1e12
        return (f"{self._model(name)}; powered for {days:,.0f} days, {terabytes:,.1f} TB written, "
                f"{health.wear_ratio:.0%} of its endurance used, {health.unsafe_shutdowns:,.0f} unsafe shutdowns, "
                f"{health.media_errors:,.0f} media errors")

    def _model(self, name: str) -> str:
        words = [text(slurp(str(self._class / name / file), 128) or b"").strip() for file in ("model", "firmware_rev")]
        return shown(" ".join(word for word in words if word))[:100] or "unknown model"


def _none(reason: str) -> Health:
    raise Broken(reason or "no log")


def _series(device: str) -> list[Series]:
    return [column.series(device) for column in COLUMNS]


COLLECTOR = CollectorSpec(
    name="nvme", config=Config, build=Nvme, reads="health logs of NVMe drives (log 02h), through the warden",
    emits=emits(COLUMNS), needs="a warden (root)", source="NVM Express Base Specification 2.0",
    period_s=60.0, slow=True, optional=True,
)
