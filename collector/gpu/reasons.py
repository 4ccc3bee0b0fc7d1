"""Why a GPU does not run at its highest clock: bits of one look, added up to seconds by the time between looks.

Source: NVML API reference, nvmlClocksEventReasons. Drivers before 535 answer by the old name.
"""

from typing import Any

from collector.gpu.binding import NS
from collector.gpu.card import Card
from collector.gpu.values import Values

BITS = {
    "setting": 0x2, "power_cap": 0x4, "hardware": 0x8, "sync_boost": 0x10, "software_thermal": 0x20,
    "hardware_thermal": 0x40, "power_brake": 0x80,
}
"""setting: clocks that somebody set. hardware: slowed by hardware (heat or power brake), by a factor of 2 or more."""
THROTTLES = {
    "gpu_throttle_power_ratio": 0x4,
    "gpu_throttle_thermal_ratio": 0x20 | 0x40,
    "gpu_throttle_brake_ratio": 0x80,
}
"""What stands in for the time that the driver counts, where it does not."""
CALLS = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")


def read_reasons(nvml: Any, card: Card, t_ns: int) -> Values:
    """Cumulative seconds of each reason, and of the throttles that this GPU's driver does not count. Raises Lost."""
    seconds = (t_ns - card.last_ns) / NS if card.last_ns and t_ns > card.last_ns else 0.0
    card.last_ns = t_ns
    bits = _bits(nvml, card)
    if bits is None:
        return {}
    wanted = {f"gpu_clock_event_ratio|{name}": bit for name, bit in BITS.items()}
    wanted |= {name: bit for name, bit in THROTTLES.items() if name not in card.counted}
    for name, bit in wanted.items():
        card.seconds[name] = card.seconds.get(name, 0.0) + (seconds if bits & bit else 0.0)
    return {name: card.seconds[name] for name in wanted}


def _bits(nvml: Any, card: Card) -> int | None:
    for name in CALLS:
        bits = card.ask(nvml, name)
        if isinstance(bits, int):
            return bits
    return None
