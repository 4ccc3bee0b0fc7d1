"""Field values: everything that NVML counts, in one call for each GPU.

Source: NVML API reference, field value queries (NVML_FI_DEV_*).
"""

from math import isnan
from typing import Any

from collector.gpu.binding import ABSENT, LOST, NAN, NS, VALUE_NAMES, Lost, number
from collector.gpu.card import Card
from collector.gpu.values import Values, known

KIB = 1024.0
EVERY_LINK = 0xFFFFFFFF
"""Scope of a field of NVLinks: all of them together."""
POWER_CAP, THERMAL, SW_THERMAL, HW_THERMAL, BRAKE = 74, 75, 269, 270, 271
COUNTS: dict[int, tuple[str, float]] = {
    3: ("gpu_ecc_corrected_per_second", 1.0),
    4: ("gpu_ecc_uncorrected_per_second", 1.0),
    94: ("gpu_pcie_replays_per_second", 1.0),
    197: ("gpu_pcie_transmit_bytes_per_second", 1.0),
    198: ("gpu_pcie_receive_bytes_per_second", 1.0),
    138: ("gpu_nvlink_transmit_bytes_per_second", KIB),
    139: ("gpu_nvlink_receive_bytes_per_second", KIB),
    38: ("gpu_nvlink_errors_per_second|flit_checksum", 1.0),
    45: ("gpu_nvlink_errors_per_second|data_checksum", 1.0),
    52: ("gpu_nvlink_errors_per_second|replay", 1.0),
    59: ("gpu_nvlink_errors_per_second|recovery", 1.0),
    POWER_CAP: ("gpu_throttle_power_ratio", 1.0 / NS),
    THERMAL: ("gpu_throttle_thermal_ratio", 1.0 / NS),
    BRAKE: ("gpu_throttle_brake_ratio", 1.0 / NS),
}
"""Field to series and factor to its unit."""
GAUGES: dict[int, tuple[str, float]] = {82: ("gpu_memory_temperature_celsius", 200.0)}
"""Field to series and the highest value that can be true."""
SELDOM: dict[int, tuple[str, float]] = {
    5: ("gpu_ecc_corrected_aggregate", 1e15),
    6: ("gpu_ecc_uncorrected_aggregate", 1e15),
    29: ("gpu_pages_retired|corrected", 1e6),
    30: ("gpu_pages_retired|uncorrected", 1e6),
    31: ("gpu_pages_retire_pending", 1.0),
    142: ("gpu_rows_remapped|corrected", 1e6),
    143: ("gpu_rows_remapped|uncorrected", 1e6),
    144: ("gpu_rows_remap_pending", 1.0),
    145: ("gpu_rows_remap_failed", 1.0),
    230: ("gpu_recovery_action", 15.0),
}
"""The same, for the slow list."""
SCOPED = frozenset((138, 139))
BATCH = "fields"
FAST_FIELDS = (*COUNTS, SW_THERMAL, HW_THERMAL, *GAUGES)


def read_fields(nvml: Any, card: Card) -> Values:
    """Counters (cumulative) and temperatures of each second. Raises Lost."""
    told = _ask(nvml, card, FAST_FIELDS)
    values = {name: told.get(one, NAN) * factor for one, (name, factor) in COUNTS.items()}
    values |= {name: number(told.get(one), 1.0, top) for one, (name, top) in GAUGES.items()}
    if THERMAL not in told:
        values["gpu_throttle_thermal_ratio"] = (told.get(SW_THERMAL, NAN) + told.get(HW_THERMAL, NAN)) / NS
    found = known(values)
    # A gap in what the driver counts stays a gap: its count and ours never mix.
    card.counted |= {name for name in found if name.startswith("gpu_throttle_") and name not in card.seconds}
    return {name: value for name, value in found.items() if name not in card.seconds}


def read_fields_seldom(nvml: Any, card: Card) -> Values:
    """Errors of the life of the GPU, replaced memory, what the driver asks for. Raises Lost."""
    told = _ask(nvml, card, tuple(SELDOM))
    return {SELDOM[one][0]: number(value, 1.0, SELDOM[one][1]) for one, value in told.items()}


def _ask(nvml: Any, card: Card, fields: tuple[int, ...]) -> dict[int, float]:
    wanted = [f for f in fields if f not in card.absent]
    if not wanted:
        return {}
    told = _batch(nvml, card, wanted)
    if told is None and BATCH in card.absent:
        _find_refused(nvml, card, wanted)
        return {}
    found = {one.fieldId: _value(card, one) for one in told or ()}
    return {one: value for one, value in found.items() if not isnan(value)}


def _batch(nvml: Any, card: Card, fields: list[int], key: str = BATCH) -> Any:
    scoped = [(f, EVERY_LINK if f in SCOPED else 0) for f in fields]
    return card.ask(nvml, "nvmlDeviceGetFieldValues", scoped, key=key)


def _find_refused(nvml: Any, card: Card, fields: list[int]) -> None:
    """A driver may refuse the whole batch for one field that it does not know: then each is asked alone, once."""
    card.absent.discard(BATCH)
    card.absent |= {f for f in fields if _batch(nvml, card, [f], f"field {f}") is None and f"field {f}" in card.absent}


def _value(card: Card, one: Any) -> float:
    """One answered field; each carries its own return code and type."""
    if one.nvmlReturn in LOST:
        raise Lost(f"NVML error {one.nvmlReturn} of field {one.fieldId}")
    if one.nvmlReturn in ABSENT:
        card.absent.add(one.fieldId)
    if one.nvmlReturn or not 0 <= one.valueType < len(VALUE_NAMES):
        return NAN
    return number(getattr(one.value, VALUE_NAMES[one.valueType]))
