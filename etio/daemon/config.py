"""The daemon's whole configuration: one TOML file, one frozen dataclass per section, each owned by its room."""

import dataclasses
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import collector
import detectors
from api.config import ApiConfig
from api.webhook import WebhookConfig
from etio.core.config import parse
from etio.core.errors import ConfigError
from etio.core.policy import EngineConfig
from etio.core.ports import CollectorSpec, DetectorSpec
from etio.store.config import StoreConfig
from rca.case import RcaConfig
from rca.llm.config import LlmConfig


@dataclass(frozen=True, slots=True)
class DaemonConfig:
    """The daemon itself.

    tick_s: seconds between frames. root: where /proc and /sys are looked for.
    user: account to run as when started as root; where it does not exist, "nobody".
    ebpf: "auto" (when allowed), "off". warden_socket: where a warden run by systemd listens; "" = start one if root.
    cpu_budget_percent: of one core; above it for a minute the dearest optional collector is shed.
    memory_minutes: minutes of every series held in memory for reports and the page.
    max_series: cardinality cap over all collectors. periods: collector name to seconds, where not its default.
    disabled: collectors that are not started.
    """

    tick_s: float = 1.0
    root: str = "/"
    user: str = "etio"
    ebpf: str = "auto"
    warden_socket: str = ""
    cpu_budget_percent: float = 5.0
    memory_minutes: float = 15.0
    max_series: int = 5000
    periods: dict[str, float] = field(default_factory=dict)
    disabled: tuple[str, ...] = ()
    report_deadline_s: float = 20.0

    def __post_init__(self) -> None:
        if self.tick_s < 0.1:
            raise ValueError(f"tick_s = {self.tick_s}: below 0.1 s the readings mean nothing")
        if self.ebpf not in ("auto", "off"):
            raise ValueError(f'ebpf = {self.ebpf!r}: neither "auto" nor "off"')


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
    """The configuration from parsed TOML."""
    parsed = parse(data, sections(), file)
    config = Config(
        daemon=parsed["daemon"], engine=parsed["engine"], store=parsed["store"], api=parsed["api"],
        webhook=parsed["webhook"], rca=parsed["rca"], llm=parsed["rca.llm"],
        collectors={n: (s, parsed[f"collector.{n}"]) for n, s in collector.discover().items()},
        detectors={n: (s, parsed[f"detector.{n}"]) for n, s in detectors.discover().items()},
        plain_rca={"rca": data.get("rca", {})},
    )
    unknown = [n for n in (*config.daemon.disabled, *config.daemon.periods)
               if n not in config.collectors and n != "ebpf"]
    if unknown:
        known = ", ".join(sorted(config.collectors))
        raise ConfigError([f"{file}: daemon: no collector named {n!r}; known: {known}" for n in unknown])
    return config


def override(config: Config, state: str | None, port: int | None) -> Config:
    """The configuration with what the command line says in its place."""
    store = dataclasses.replace(config.store, directory=os.path.abspath(state)) if state else config.store
    api = dataclasses.replace(config.api, port=port) if port is not None else config.api
    return dataclasses.replace(config, store=store, api=api)
