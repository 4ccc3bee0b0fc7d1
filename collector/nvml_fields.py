"""What is asked of one NVIDIA GPU: series, field numbers, and the calls with their units.

Every answer passes number(), so that none of NVML's "not available" values ever becomes a sample.
Source: NVML API reference (docs.nvidia.com/deploy/nvml-api): device queries, field identifiers, clock event reasons.
"""

import math
from collections.abc import Callable
from typing import Any

from etio.core.ports import Emits

NAN = math.nan
NS = 1_000_000_000
TAGS = ("gpu", "uuid")
EMITS = (
    Emits("gpu_utilization_ratio", "ratio", TAGS, "time in which at least one kernel was resident"),
    Emits("gpu_memory_activity_ratio", "ratio", TAGS, "time in which device memory was read or written"),
    Emits("gpu_memory_used_bytes", "bytes", TAGS, "device memory in use"),
    Emits("gpu_memory_used_ratio", "ratio", TAGS, "the same over all device memory"),
    Emits("gpu_temperature_celsius", "celsius", TAGS, "core temperature"),
    Emits("gpu_power_watts", "watts", TAGS, "power drawn"),
    Emits("gpu_power_limit_watts", "watts", TAGS, "power limit in force"),
    Emits("gpu_sm_clock_hertz", "hertz", TAGS, "clock of the multiprocessors"),
    Emits("gpu_memory_clock_hertz", "hertz", TAGS, "clock of the device memory"),
    Emits("gpu_throttle_power_ratio", "ratio", TAGS, "time slowed by the power cap; usual at full load"),
    Emits("gpu_throttle_thermal_ratio", "ratio", TAGS, "time slowed by temperature"),
    Emits("gpu_throttle_brake_ratio", "ratio", TAGS, "time slowed by the external power brake; never usual"),
    Emits("gpu_ecc_corrected_per_second", "1/s", TAGS, "memory errors corrected"),
    Emits("gpu_ecc_uncorrected_per_second", "1/s", TAGS, "memory errors not corrected"),
    Emits("gpu_pcie_replays_per_second", "1/s", TAGS, "PCIe packets sent again"),
    Emits("gpu_pcie_link_width", "1", TAGS, "PCIe lanes in use"),
    Emits("gpu_pcie_link_generation", "1", TAGS, "PCIe generation in use; falls when idle"),
    Emits("gpu_processes", "1", TAGS, "processes with a context on the GPU"),
)
UNITS = {one.name: one.unit for one in EMITS}
COUNTERS = {name for name in UNITS if name.endswith("_per_second") or name.startswith("gpu_throttle_")}

ABSENT = frozenset({2, 3, 4, 13, 25})
"""Invalid argument, not supported, no permission, function not found, version mismatch: this GPU will never answer."""
LOST = frozenset({15, 16, 28})
"""GPU is lost, reset required, GPU not found."""
NO_DRIVER = frozenset({9, 12})

FI_ECC_CORRECTED, FI_ECC_UNCORRECTED, FI_REPLAYS = 3, 4, 94
FI_POWER_CAP, FI_THERMAL, FI_SW_THERMAL, FI_HW_THERMAL, FI_BRAKE = 74, 75, 269, 270, 271
FIELDS = (FI_ECC_CORRECTED, FI_ECC_UNCORRECTED, FI_REPLAYS, FI_POWER_CAP, FI_THERMAL, FI_SW_THERMAL, FI_HW_THERMAL,
          FI_BRAKE)
REASON_BITS = {
    "gpu_throttle_power_ratio": 0x4,
    "gpu_throttle_thermal_ratio": 0x20 | 0x40,
    "gpu_throttle_brake_ratio": 0x80,
}
XID_EVENT = 0x8
VALUE_NAMES = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
"""Member of the value union by NVML value type."""

Values = dict[str, float]
Call = Callable[[Any, Any], Values]


def number(value: Any, scale: float = 1.0, top: float = math.inf) -> float:
    """An NVML number in our unit; NaN for its "not available" values, negative ones and what passes `top`.

    >>> number(0xFFFFFFFF), number(250_000, 1e-3), number(101, 0.01, 1.0)
    (nan, 250.0, nan)
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return NAN
    if value in (0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF) or not 0 <= value < math.inf:
        return NAN
    return value * scale if value * scale <= top else NAN


def _utilization(nvml: Any, handle: Any) -> Values:
    rates = nvml.nvmlDeviceGetUtilizationRates(handle)
    return {"gpu_utilization_ratio": number(rates.gpu, 0.01, 1.0),
            "gpu_memory_activity_ratio": number(rates.memory, 0.01, 1.0)}


def _memory(nvml: Any, handle: Any) -> Values:
    info = nvml.nvmlDeviceGetMemoryInfo(handle)
    used, total = number(info.used), number(info.total)
    ratio = used / total if total > 0 and used <= total else NAN
    return {"gpu_memory_used_bytes": used, "gpu_memory_used_ratio": ratio}


def _temperature(nvml: Any, handle: Any) -> Values:
    return {"gpu_temperature_celsius": number(nvml.nvmlDeviceGetTemperature(handle, 0), 1.0, 200.0)}


def _power(nvml: Any, handle: Any) -> Values:
    return {"gpu_power_watts": number(nvml.nvmlDeviceGetPowerUsage(handle), 1e-3, 1e4)}


def _sm_clock(nvml: Any, handle: Any) -> Values:
    return {"gpu_sm_clock_hertz": number(nvml.nvmlDeviceGetClockInfo(handle, 1), 1e6, 1e11)}


def _memory_clock(nvml: Any, handle: Any) -> Values:
    return {"gpu_memory_clock_hertz": number(nvml.nvmlDeviceGetClockInfo(handle, 2), 1e6, 1e11)}


def _power_limit(nvml: Any, handle: Any) -> Values:
    return {"gpu_power_limit_watts": number(nvml.nvmlDeviceGetEnforcedPowerLimit(handle), 1e-3, 1e4)}


def _link_width(nvml: Any, handle: Any) -> Values:
    return {"gpu_pcie_link_width": number(nvml.nvmlDeviceGetCurrPcieLinkWidth(handle), 1.0, 64)}


def _link_generation(nvml: Any, handle: Any) -> Values:
    return {"gpu_pcie_link_generation": number(nvml.nvmlDeviceGetCurrPcieLinkGeneration(handle), 1.0, 16)}


FAST: tuple[Call, ...] = (_utilization, _memory, _temperature, _power, _sm_clock, _memory_clock)
SLOW: tuple[Call, ...] = (_power_limit, _link_width, _link_generation)


def counters(fields: dict[int, float]) -> Values:
    """Cumulative values from field values; throttled time comes in nanoseconds and goes out in seconds."""
    thermal = fields.get(FI_THERMAL, NAN)
    if math.isnan(thermal):
        thermal = fields.get(FI_SW_THERMAL, NAN) + fields.get(FI_HW_THERMAL, NAN)
    return {
        "gpu_ecc_corrected_per_second": fields.get(FI_ECC_CORRECTED, NAN),
        "gpu_ecc_uncorrected_per_second": fields.get(FI_ECC_UNCORRECTED, NAN),
        "gpu_pcie_replays_per_second": fields.get(FI_REPLAYS, NAN),
        "gpu_throttle_power_ratio": fields.get(FI_POWER_CAP, NAN) / NS,
        "gpu_throttle_thermal_ratio": thermal / NS,
        "gpu_throttle_brake_ratio": fields.get(FI_BRAKE, NAN) / NS,
    }
