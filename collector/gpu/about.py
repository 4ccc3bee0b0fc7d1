"""What a GPU is and how it is set up: facts for the report, not samples."""

from math import isnan
from typing import Any

from collector.gpu.binding import number
from collector.gpu.card import Card

COMPUTE_MODES = {0: "default", 2: "prohibited", 3: "exclusive process"}
SWITCH = {0: "off", 1: "on"}
SM = 1
"""NVML_CLOCK_SM."""
LEVELS = {0: "GPUs on the same board", 10: "GPUs behind one PCIe switch", 20: "GPUs behind several PCIe switches",
          30: "GPUs on one host bridge", 40: "GPUs on one NUMA node", 50: "GPUs on other NUMA nodes"}
"""nvmlGpuTopologyLevel_t."""


def about(nvml: Any, card: Card) -> dict[str, str]:
    """Settings of one GPU in words; only what it tells. Raises Lost."""
    told = {
        "name": card.name,
        "pci": card.pci,
        "persistence": _word(card.ask(nvml, "nvmlDeviceGetPersistenceMode"), SWITCH),
        "compute mode": _word(card.ask(nvml, "nvmlDeviceGetComputeMode"), COMPUTE_MODES),
        "ecc": _pair(card.ask(nvml, "nvmlDeviceGetEccMode")),
        "mig": _pair(card.ask(nvml, "nvmlDeviceGetMigMode")),
        "power limit": _power(nvml, card),
        "application clock": _clock(card.ask(nvml, "nvmlDeviceGetApplicationsClock", SM, key="clock application")),
        "highest clock": _clock(card.ask(nvml, "nvmlDeviceGetMaxClockInfo", SM, key="clock max")),
    }
    return {name: words for name, words in told.items() if words}


def near(nvml: Any, card: Card, others: list[Card]) -> dict[str, str]:
    """How far other GPUs are: level to their indices ("GPUs on one NUMA node": "1 2"). Raises Lost."""
    found: dict[str, list[str]] = {}
    for other in others:
        if other.index != card.index:
            level = card.ask(nvml, "nvmlDeviceGetTopologyCommonAncestor", other.handle, key="topology")
            if level in LEVELS:
                found.setdefault(LEVELS[level], []).append(str(other.index))
    return {level: " ".join(indices) for level, indices in found.items()}


def _word(value: Any, words: dict[int, str]) -> str:
    return words.get(value, "") if isinstance(value, int) else ""


def _pair(modes: Any) -> str:
    """A mode now, and after the next reset where that differs."""
    if modes is None or modes[0] not in SWITCH:
        return ""
    pending = f", {SWITCH[modes[1]]} after a reset" if modes[1] != modes[0] and modes[1] in SWITCH else ""
    return SWITCH[modes[0]] + pending


def _power(nvml: Any, card: Card) -> str:
    now = number(card.ask(nvml, "nvmlDeviceGetEnforcedPowerLimit"), 1e-3, 1e4)
    usual = number(card.ask(nvml, "nvmlDeviceGetPowerManagementDefaultLimit"), 1e-3, 1e4)
    bounds = card.ask(nvml, "nvmlDeviceGetPowerManagementLimitConstraints")
    if isnan(now):
        return ""
    told = f"{now:.0f} W"
    if not isnan(usual):
        told += f" (default {usual:.0f} W"
        if bounds is not None:
            told += f", {number(bounds[0], 1e-3):.0f} to {number(bounds[1], 1e-3):.0f} W possible"
        told += ")"
    return told


def _clock(megahertz: Any) -> str:
    value = number(megahertz, 1.0, 1e5)
    return "" if isnan(value) else f"{value:.0f} MHz"
