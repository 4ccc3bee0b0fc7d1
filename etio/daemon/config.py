"""The daemon's whole configuration: one TOML file, one frozen dataclass per section, each owned by its room."""

import dataclasses
import os
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import collector
import detectors
from api.config import ApiConfig
from api.webhook import WebhookConfig
from collector.ebpf.families import ON_DEMAND
from etio.core.codec import from_plain
from etio.core.config import parse
from etio.core.errors import Broken, ConfigError
from etio.core.policy import EngineConfig
from etio.core.ports import CollectorSpec, DetectorSpec
from etio.daemon.profile import LIVE_MINUTES, PROFILES, lean_detectors, lean_store
from etio.daemon.timezone import is_zone
from etio.store.config import StoreConfig
from rca.case import RcaConfig
from rca.llm.config import LlmConfig


@dataclass(frozen=True, slots=True)
class DaemonConfig:
    """The daemon itself.

    tick_s: seconds between frames. root: where /proc and /sys are looked for.
    quiet_ticks: while nothing is wrong and nobody watches, so many frames are judged at once, which costs less
    (1 = each as it comes).
    user: account to run as when started as root; where it does not exist, "nobody".
    ebpf: "auto" (when allowed), "off". warden_socket: where a warden run by systemd listens; "" = start one if root.
    ebpf_on_demand: eBPF families that cost too much to be always on: "lock" (waits for locks of the kernel).
    cpu_budget_percent: of one core, where eBPF programs count with their part of each core; above it for cpu_budget_s
    the dearest optional collector or family of programs is shed, and tried again after shed_retry_s when there is room
    (longer after each time).
    memory_minutes: minutes of every series held in memory for reports and the page.
    max_series: cardinality cap over all collectors. periods: collector name to seconds, where not its default.
    disabled: collectors that are not started.
    profile: "full", or "lean" for less memory: without the detector that needs river, smaller buffers.
    seasons_every_h: hours between two fits of what is usual at each hour (a child of lowest priority); 0 = never.
    time_zone: in which hours of the day and days of the week count, such as "Europe/Berlin"; "" = that of the host.
    """

    tick_s: float = 1.0
    quiet_ticks: int = 3
    root: str = "/"
    user: str = "etio"
    ebpf: str = "auto"
    ebpf_on_demand: tuple[str, ...] = ()
    warden_socket: str = ""
    cpu_budget_percent: float = 5.0
    cpu_budget_s: float = 60.0
    shed_retry_s: float = 600.0
    memory_minutes: float = 15.0
    max_series: int = 5000
    periods: dict[str, float] = field(default_factory=dict)
    disabled: tuple[str, ...] = ()
    report_deadline_s: float = 20.0
    seasons_every_h: float = 24.0
    time_zone: str = ""
    profile: str = "full"

    def __post_init__(self) -> None:
        if not 0.1 <= self.tick_s <= 60:
            raise ValueError(f"tick_s = {self.tick_s}: must lie between 0.1 and 60 s")
        if not 1 <= self.quiet_ticks <= 10:
            raise ValueError(f"quiet_ticks = {self.quiet_ticks}: must lie between 1 and 10")
        for name in ("cpu_budget_percent", "cpu_budget_s", "shed_retry_s", "memory_minutes", "max_series",
                     "report_deadline_s"):
            if not 0 < getattr(self, name) < 1e9:
                raise ValueError(f"{name} = {getattr(self, name)}: must be above 0")
        _check_periods(self.periods)
        if not 0 <= self.seasons_every_h <= 1000:
            raise ValueError(f"seasons_every_h = {self.seasons_every_h}: must lie between 0 and 1000 h")
        for name, known in (("ebpf", ("auto", "off")), ("profile", PROFILES)):
            if getattr(self, name) not in known:
                raise ValueError(f'{name} = {getattr(self, name)!r}: neither "{known[0]}" nor "{known[1]}"')
        if self.time_zone and not is_zone(self.time_zone):
            raise ValueError(f'time_zone = "{self.time_zone}": no such time zone; a name such as "Europe/Oslo"')
        self._check_ebpf()

    def _check_ebpf(self) -> None:
        if unknown := set(self.ebpf_on_demand) - set(ON_DEMAND):
            raise ValueError(f"ebpf_on_demand: no family {', '.join(sorted(unknown))}; known: {', '.join(ON_DEMAND)}")


def _check_periods(periods: object) -> None:
    if not isinstance(periods, dict):
        raise ValueError("periods: expected a table of collector = seconds, such as [daemon.periods] numa = 10.0")
    for name, period in periods.items():
        if not isinstance(period, (int, float)) or isinstance(period, bool) or not 0.1 <= period <= 3600:
            raise ValueError(f"periods.{name} = {period!r}: must be seconds between 0.1 and 3600")


@dataclass(frozen=True, slots=True)
class Config:
    """Every section, parsed. plain: the RCA sections as the file gave them, for the RCA worker."""

    daemon: DaemonConfig
    engine: EngineConfig
    store: StoreConfig
    api: ApiConfig
    webhook: WebhookConfig
    rca: RcaConfig
    llm: LlmConfig
    collectors: Mapping[str, tuple[CollectorSpec, Any]]
    detectors: Mapping[str, tuple[DetectorSpec, Any]]
    plain_rca: dict[str, Any]


FIXED: Mapping[str, type[Any]] = {
    "daemon": DaemonConfig,
    "engine": EngineConfig,
    "store": StoreConfig,
    "api": ApiConfig,
    "webhook": WebhookConfig,
    "rca": RcaConfig,
    "rca.llm": LlmConfig,
}


def sections() -> dict[str, type[Any]]:
    """Every section name and its dataclass."""
    found = dict(FIXED)
    found |= {f"collector.{name}": spec.config for name, spec in collector.discover().items()}
    found |= {f"detector.{name}": spec.config for name, spec in detectors.discover().items()}
    return found


def load(path: Path | None) -> Config:
    """The configuration from a file; None = all defaults. Raises ConfigError listing every mistake."""
    data: dict[str, Any] = {}
    if path is not None:
        try:
            data = tomllib.loads(path.read_text())
        except OSError as error:
            raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError([f"{path}: no TOML: {error}"]) from error
    return from_table(data, str(path or "defaults"))


def from_table(data: Mapping[str, Any], file: str) -> Config:
    """The configuration from parsed TOML; `file` names it in what is told. Raises ConfigError with every problem."""
    problems: list[str] = []
    data = _without_bad_items(data, file, problems)
    try:
        parsed = parse(data, sections(), file)
    except ConfigError as error:
        raise ConfigError([*error.problems, *problems]) from error
    if problems:
        raise ConfigError(problems)
    config = Config(
        daemon=parsed["daemon"], engine=parsed["engine"], store=parsed["store"], api=parsed["api"],
        webhook=parsed["webhook"], rca=parsed["rca"], llm=parsed["rca.llm"],
        collectors={n: (s, parsed[f"collector.{n}"]) for n, s in collector.discover().items()},
        detectors={n: (s, _with_sources(parsed[f"detector.{n}"])) for n, s in detectors.discover().items()},
        plain_rca={"rca": data.get("rca", {})},
    )
    config = _lean(config) if config.daemon.profile == "lean" else config
    unknown = [n for n in (*config.daemon.disabled, *config.daemon.periods)
               if n not in config.collectors and n != "ebpf"]
    if unknown:
        known = ", ".join(sorted(config.collectors))
        raise ConfigError([f"{file}: daemon: no collector named {n!r}; known: {known}" for n in unknown])
    return config


def _with_sources(settings: Any) -> Any:
    """Settings of a detector that wants to know which collector emits a series are told, unless the file does."""
    if getattr(settings, "sources", None) != {}:
        return settings
    emitted = {e.name: n for n, spec in collector.discover().items() for e in spec.emits}
    return dataclasses.replace(settings, sources=emitted)


def _lean(config: Config) -> Config:
    minutes = min(config.daemon.memory_minutes, LIVE_MINUTES)
    return dataclasses.replace(
        config, daemon=dataclasses.replace(config.daemon, memory_minutes=minutes), store=lean_store(config.store),
        detectors=lean_detectors(config.detectors))


def _without_bad_items(data: Mapping[str, Any], file: str, problems: list[str]) -> Mapping[str, Any]:
    """The tables without those items of lists of tables (webhook.targets) that refuse their values, each told."""
    kept = dict(data)
    for section, cls in FIXED.items():
        table = data.get(section)
        for key, hint in typing.get_type_hints(cls).items() if isinstance(table, dict) else ():
            kind = next(iter(typing.get_args(hint)), None)
            items = kept[section].get(key)
            if isinstance(items, list) and isinstance(kind, type) and dataclasses.is_dataclass(kind):
                good = [item for i, item in enumerate(items)
                        if _fits(kind, item, f"{file}: {section}.{key}[{i}]", problems)]
                kept[section] = {**kept[section], key: good}
    return kept


def _fits(kind: type[Any], item: Any, where: str, problems: list[str]) -> bool:
    try:
        from_plain(kind, item, where)
    except Broken as error:
        problems.append(str(error))
    except ValueError as error:
        problems.append(f"{where}: {error}")
    else:
        return True
    return False


def override(config: Config, state: str | None, port: int | None) -> Config:
    """The configuration with what the command line says in its place."""
    store = dataclasses.replace(config.store, directory=os.path.abspath(state)) if state else config.store
    api = dataclasses.replace(config.api, port=port) if port is not None else config.api
    return dataclasses.replace(config, store=store, api=api)
