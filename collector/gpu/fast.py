"""What is asked of a GPU each second, one call each."""

from typing import Any

from collector.gpu.binding import NAN, number, over
from collector.gpu.card import Card
from collector.gpu.values import Values

SM, MEMORY = 1, 2
"""NVML_CLOCK_SM, NVML_CLOCK_MEM."""
CORE = 0
"""NVML_TEMPERATURE_GPU."""
SLOWDOWN = 1
"""NVML_TEMPERATURE_THRESHOLD_SLOWDOWN."""


def read_fast(nvml: Any, card: Card) -> Values:
    """Use, memory, heat, power and clocks. Raises Lost."""
    if not card.limits:
        card.limits = _limits(nvml, card)
    clock = number(card.ask(nvml, "nvmlDeviceGetClockInfo", SM, key="clock sm"), 1e6, 1e11)
    memory_clock = card.ask(nvml, "nvmlDeviceGetClockInfo", MEMORY, key="clock memory")
    heat = _heat(nvml, card)
    return {
        **_use(nvml, card),
        "gpu_temperature_celsius": heat,
        "gpu_temperature_headroom_celsius": card.limits["slowdown"] - heat,
        "gpu_power_watts": number(card.ask(nvml, "nvmlDeviceGetPowerUsage"), 1e-3, 1e4),
        "gpu_sm_clock_hertz": clock,
        "gpu_sm_clock_ratio": over(clock, card.limits["sm_clock"]),
        "gpu_memory_clock_hertz": number(memory_clock, 1e6, 1e11),
    }


def _heat(nvml: Any, card: Card) -> float:
    """The old call, which CUDA 14 takes away, or the new one, which older drivers do not have."""
    told = card.ask(nvml, "nvmlDeviceGetTemperature", CORE)
    return number(card.ask(nvml, "nvmlDeviceGetTemperatureV", CORE) if told is None else told, 1.0, 200.0)


def _use(nvml: Any, card: Card) -> Values:
    rates = card.ask(nvml, "nvmlDeviceGetUtilizationRates")
    info = card.ask(nvml, "nvmlDeviceGetMemoryInfo")
    used = number(info.used) if info is not None else NAN
    return {
        "gpu_utilization_ratio": number(rates.gpu, 0.01, 1.0) if rates is not None else NAN,
        "gpu_memory_activity_ratio": number(rates.memory, 0.01, 1.0) if rates is not None else NAN,
        "gpu_memory_used_bytes": used,
        "gpu_memory_used_ratio": over(used, number(info.total)) if info is not None else NAN,
    }


def _limits(nvml: Any, card: Card) -> Values:
    """What the GPU could do at the most; asked once."""
    slowdown = card.ask(nvml, "nvmlDeviceGetTemperatureThreshold", SLOWDOWN, key="threshold slowdown")
    return {
        "slowdown": number(slowdown, 1.0, 200.0),
        "sm_clock": number(card.ask(nvml, "nvmlDeviceGetMaxClockInfo", SM, key="clock max"), 1e6, 1e11),
    }
