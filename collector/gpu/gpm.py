"""GPM: how busy the parts of a GPU really are, from two samples of its counters (Hopper and newer).

Utilisation only says that a kernel was there; these say how much of the GPU it used. Two samples take turns.
Source: NVML API reference, GPM functions; metric numbers are NVML_GPM_METRIC_*.
"""

from math import isnan, nan
from typing import Any

from collector.gpu.binding import NS, number
from collector.gpu.card import Card
from collector.gpu.values import Values

MIB = 2.0**20
RATIOS = {2: "gpu_sm_activity_ratio", 3: "gpu_sm_occupancy_ratio", 5: "gpu_tensor_activity_ratio",
          10: "gpu_dram_activity_ratio"}
FLOWS = {20: (197, "gpu_pcie_transmit_bytes_per_second"), 21: (198, "gpu_pcie_receive_bytes_per_second"),
         61: (138, "gpu_nvlink_transmit_bytes_per_second"), 60: (139, "gpu_nvlink_receive_bytes_per_second")}
"""Metric to the field that counts the same (then that one is taken) and the series."""
SUPPORT = "gpm"


def read_gpm(nvml: Any, card: Card, t_ns: int, last_ns: int) -> Values:
    """Ratios since the last reading, and cumulative bytes where no field counts them. Raises Lost."""
    if not _supported(nvml, card):
        return {}
    older, newer = card.samples
    if card.ask(nvml, "nvmlGpmSampleGet", newer) is None:
        return {}
    card.samples = [newer, older]
    if not last_ns or "gpm first" not in card.counted:
        card.counted.add("gpm first")
        return {}
    told = _metrics(nvml, card, older, newer)
    values = {name: told[one] for one, name in RATIOS.items() if one in told}
    seconds = (t_ns - last_ns) / NS
    for one, (counted_by, name) in FLOWS.items():
        if one in told and counted_by in card.absent and seconds > 0:
            card.seconds[name] = card.seconds.get(name, 0.0) + told[one] * seconds
            values[name] = card.seconds[name]
    return values


def _supported(nvml: Any, card: Card) -> bool:
    if SUPPORT in card.absent or card.samples:
        return SUPPORT not in card.absent
    told = card.ask(nvml, "nvmlGpmQueryDeviceSupport")
    if told is None or told.isSupportedDevice != 1:
        card.absent.add(SUPPORT)
        return False
    try:
        card.samples = [nvml.nvmlGpmSampleAlloc(), nvml.nvmlGpmSampleAlloc()]
    except nvml.NVMLError:
        card.absent.add(SUPPORT)
    return SUPPORT not in card.absent


def _metrics(nvml: Any, card: Card, older: Any, newer: Any) -> dict[int, float]:
    """Metric number to ratio, or to bytes a second."""
    wanted = [one for one in (*RATIOS, *FLOWS) if f"gpm {one}" not in card.absent]
    asked = nvml.c_nvmlGpmMetricsGet_t()
    asked.version, asked.numMetrics = nvml.NVML_GPM_METRICS_GET_VERSION, len(wanted)
    asked.sample1, asked.sample2 = older, newer
    for i, one in enumerate(wanted):
        asked.metrics[i].metricId = one
    card.doing(f"nvmlGpmMetricsGet of GPU {card.index}")
    try:
        nvml.nvmlGpmMetricsGet(asked)
    except nvml.NVMLError:
        return {}
    found = {}
    for i, one in enumerate(wanted):
        metric = asked.metrics[i]
        if metric.nvmlReturn:
            card.absent.add(f"gpm {one}")
        found[one] = _value(one, metric)
    return {one: value for one, value in found.items() if not isnan(value)}


def _value(one: int, metric: Any) -> float:
    if metric.nvmlReturn:
        return nan
    return number(metric.value, 0.01, 1.0) if one in RATIOS else number(metric.value, MIB, 1e13)
