"""What is asked of a GPU now and then: limits, PCIe link, NVLinks, MIG instances, who uses it."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

from collector.gpu.binding import NAN, number, over
from collector.gpu.card import Card
from collector.gpu.values import Values

MAX_LINKS = 36
"""NVML_NVLINK_MAX_LINKS."""
MAX_INSTANCES = 8
LEAST_ALIKE = 3
"""GPUs of one name that can say how many links each of them has."""


@dataclass(frozen=True, slots=True)
class Holder:
    """One process on one GPU. memory_bytes: NaN where the driver does not tell (MIG, containers).

    instance: the MIG instance, -1 = none.
    """

    gpu: int
    uuid: str
    pid: int
    memory_bytes: float = NAN
    instance: int = -1


def read_slow(nvml: Any, card: Card) -> Values:
    """Limits, fan, performance state, links, MIG. Raises Lost."""
    return {**_power(nvml, card), **_pcie(nvml, card), **_nvlink(nvml, card), **_mig(nvml, card)}


def read_holders(nvml: Any, card: Card) -> tuple[Holder, ...] | None:
    """Who has a context on the GPU; None where the driver does not tell. Raises Lost."""
    listed = card.ask(nvml, "nvmlDeviceGetComputeRunningProcesses")
    if listed is None:
        return None
    return tuple(Holder(card.index, card.uuid, p.pid, number(p.usedGpuMemory), _instance(p)) for p in listed)


def _instance(process: Any) -> int:
    found = number(getattr(process, "gpuInstanceId", None))
    return -1 if isnan(found) else int(found)


def _power(nvml: Any, card: Card) -> Values:
    limit = number(card.ask(nvml, "nvmlDeviceGetEnforcedPowerLimit"), 1e-3, 1e4)
    usual = number(card.ask(nvml, "nvmlDeviceGetPowerManagementDefaultLimit"), 1e-3, 1e4)
    return {
        "gpu_power_limit_watts": limit,
        "gpu_power_limit_default_watts": usual,
        "gpu_power_limit_ratio": limit / usual if usual > 0 else NAN,
        "gpu_fan_speed_ratio": number(card.ask(nvml, "nvmlDeviceGetFanSpeed"), 0.01, 2.0),
        "gpu_performance_state": number(card.ask(nvml, "nvmlDeviceGetPerformanceState"), 1.0, 15.0),
    }


def _pcie(nvml: Any, card: Card) -> Values:
    width = number(card.ask(nvml, "nvmlDeviceGetCurrPcieLinkWidth"), 1.0, 64)
    generation = number(card.ask(nvml, "nvmlDeviceGetCurrPcieLinkGeneration"), 1.0, 16)
    widest = number(card.ask(nvml, "nvmlDeviceGetMaxPcieLinkWidth"), 1.0, 64)
    newest = number(card.ask(nvml, "nvmlDeviceGetMaxPcieLinkGeneration"), 1.0, 16)
    return {
        "gpu_pcie_link_width": width,
        "gpu_pcie_link_width_ratio": over(width, widest),
        "gpu_pcie_link_generation": generation,
        "gpu_pcie_link_generation_ratio": over(generation, newest),
    }


def _nvlink(nvml: Any, card: Card) -> Values:
    """Working links. A link that never worked here is not wired, which is no fault."""
    up = 0
    for link in range(MAX_LINKS):
        state = card.ask(nvml, "nvmlDeviceGetNvLinkState", link, key=f"link {link}")
        if state is None:
            if f"link {link}" in card.absent:
                break
            continue
        up += state == 1
    if "link 0" in card.absent:
        return {}
    card.links, card.links_up = max(card.links, up), up
    return {"gpu_nvlink_links_up": float(up)}


def links_down(card: Card, others: Sequence[Card]) -> Values:
    """Links that worked here, or work on most of the GPUs of the same name (three at least): they are wired alike."""
    if card.links_up < 0:
        return {}
    alike = [one.links_up for one in others if one.name == card.name and one.links_up >= 0]
    most = max(alike, default=0)
    wired = most if len(alike) >= LEAST_ALIKE and alike.count(most) * 2 > len(alike) else 0
    return {"gpu_nvlink_links_down": float(max(card.links, wired) - card.links_up)}


def _mig(nvml: Any, card: Card) -> Values:
    mode = card.ask(nvml, "nvmlDeviceGetMigMode")
    if mode is None or mode[0] != 1:
        return {}
    values: Values = {}
    most = number(card.ask(nvml, "nvmlDeviceGetMaxMigDeviceCount"))
    found = 0
    for at in range(0 if isnan(most) else min(int(most), MAX_INSTANCES)):
        handle = _mig_handle(nvml, card, at)
        if handle is not None:
            found += 1
            values |= _mig_values(nvml, Card(card.index, handle, card.uuid, doing=card.doing))
    return {**values, "gpu_mig_instances": float(found)}


def _mig_handle(nvml: Any, card: Card, at: int) -> Any:
    """None where there is no instance at this place, which may change at any time."""
    handle = card.ask(nvml, "nvmlDeviceGetMigDeviceHandleByIndex", at, key=f"mig {at}")
    card.absent.discard(f"mig {at}")
    return handle


def _mig_values(nvml: Any, instance: Card) -> Values:
    number_of = number(instance.ask(nvml, "nvmlDeviceGetGpuInstanceId"))
    info = instance.ask(nvml, "nvmlDeviceGetMemoryInfo")
    if info is None or isnan(number_of):
        return {}
    return {f"gpu_mig_memory_used_ratio|{int(number_of)}": over(number(info.used), number(info.total))}
