"""The series of a GPU. Values travel from the worker by name; where a series has a label of its own, as "name|value".

Source: NVML API reference (docs.nvidia.com/deploy/nvml-api).
"""

from collector.table import Column
from etio.core.series import Kind, Labels, Series

TAGS = ("gpu", "uuid")


def _c(name: str, unit: str, what: str, own: str = "", kind: Kind = "gauge") -> Column:
    return Column(name, unit, kind, what, (*TAGS, own) if own else TAGS)


def _n(name: str, unit: str, what: str, own: str = "") -> Column:
    return _c(name, unit, what, own, "counter")


FAST = (
    _c("gpu_utilization_ratio", "ratio", "time in which at least one kernel was resident"),
    _c("gpu_utilization_rhythm_ratio", "ratio", "the same over the last minute, where it comes and goes in a rhythm"),
    _c("gpu_memory_activity_ratio", "ratio", "time in which device memory was read or written"),
    _c("gpu_memory_used_bytes", "bytes", "device memory in use"),
    _c("gpu_memory_used_ratio", "ratio", "the same over all device memory"),
    _c("gpu_temperature_celsius", "celsius", "core temperature"),
    _c("gpu_memory_temperature_celsius", "celsius", "temperature of the device memory"),
    _c("gpu_temperature_headroom_celsius", "celsius", "left to the temperature at which hardware slows down"),
    _c("gpu_power_watts", "watts", "power drawn"),
    _c("gpu_sm_clock_hertz", "hertz", "clock of the multiprocessors"),
    _c("gpu_sm_clock_ratio", "ratio", "the same over the highest the GPU can do"),
    _c("gpu_memory_clock_hertz", "hertz", "clock of the device memory"),
    _n("gpu_throttle_power_ratio", "ratio", "time slowed by the power cap; usual at full load"),
    _n("gpu_throttle_thermal_ratio", "ratio", "time slowed by temperature"),
    _n("gpu_throttle_brake_ratio", "ratio", "time slowed by the external power brake; never usual"),
    _n("gpu_clock_event_ratio", "ratio", "time in which the driver gave this reason for its clocks", "reason"),
    _n("gpu_ecc_corrected_per_second", "1/s", "memory errors corrected"),
    _n("gpu_ecc_uncorrected_per_second", "1/s", "memory errors not corrected"),
    _n("gpu_pcie_replays_per_second", "1/s", "PCIe packets sent again"),
    _n("gpu_pcie_receive_bytes_per_second", "bytes/s", "from the host"),
    _n("gpu_pcie_transmit_bytes_per_second", "bytes/s", "to the host"),
    _n("gpu_nvlink_receive_bytes_per_second", "bytes/s", "all NVLinks"),
    _n("gpu_nvlink_transmit_bytes_per_second", "bytes/s", "all NVLinks"),
    _n("gpu_nvlink_errors_per_second", "1/s", "NVLink errors: checksums, packets sent again, links recovered", "type"),
)
GPM = (
    _c("gpu_sm_activity_ratio", "ratio", "multiprocessors with work (Hopper and newer)"),
    _c("gpu_sm_occupancy_ratio", "ratio", "warps in flight, of what would fit (Hopper and newer)"),
    _c("gpu_tensor_activity_ratio", "ratio", "time in which tensor cores worked (Hopper and newer)"),
    _c("gpu_dram_activity_ratio", "ratio", "memory bandwidth in use, of the most possible (Hopper and newer)"),
)
SLOW = (
    _c("gpu_power_limit_watts", "watts", "power limit in force"),
    _c("gpu_power_limit_default_watts", "watts", "power limit of the maker"),
    _c("gpu_power_limit_ratio", "ratio", "the same over the limit of the maker"),
    _c("gpu_fan_speed_ratio", "ratio", "speed that the fan is told to have"),
    _c("gpu_performance_state", "1", "0 = most performance ... 15 = least"),
    _c("gpu_pcie_link_width", "1", "PCIe lanes in use"),
    _c("gpu_pcie_link_width_ratio", "ratio", "the same over the most this GPU and slot can do"),
    _c("gpu_pcie_link_generation", "1", "PCIe generation in use; falls when idle"),
    _c("gpu_pcie_link_generation_ratio", "ratio", "the same over the highest this GPU and slot can do"),
    _c("gpu_nvlink_links_up", "1", "NVLinks that work"),
    _c("gpu_nvlink_links_down", "1", "NVLinks that do not work and have before, or do on most of its siblings"),
    _c("gpu_ecc_corrected_aggregate", "1", "memory errors corrected in the life of the GPU"),
    _c("gpu_ecc_uncorrected_aggregate", "1", "memory errors not corrected in the life of the GPU"),
    _c("gpu_rows_remapped", "1", "memory rows replaced by spare ones", "severity"),
    _c("gpu_rows_remap_pending", "1", "1 = a memory row is to be replaced at the next reset"),
    _c("gpu_rows_remap_failed", "1", "1 = a memory row could not be replaced"),
    _c("gpu_pages_retired", "1", "memory pages no longer used (before Ampere)", "severity"),
    _c("gpu_pages_retire_pending", "1", "1 = a memory page goes out of use at the next reset (before Ampere)"),
    _c("gpu_recovery_action", "1", "what the driver asks for: 0 nothing, 1 reset, 2 and 7 reboot, 3 and 4 drain ..."),
    _c("gpu_processes", "1", "processes with a context on the GPU"),
    _c("gpu_processes_far", "1", "of these, those that were last seen on another NUMA node than that of the GPU"),
    _c("gpu_mig_instances", "1", "MIG instances; present where MIG is on"),
    _c("gpu_mig_memory_used_ratio", "ratio", "memory of a MIG instance in use", "instance"),
)
COLUMNS = {one.name: one for one in (*FAST, *GPM, *SLOW)}


def series_of(name: str, tags: Labels) -> Series | None:
    """The series that a value of this name belongs to; None where there is no such series."""
    base, _, own = name.partition("|")
    column = COLUMNS.get(base)
    if column is None or bool(own) != (len(column.labels) > len(TAGS)):
        return None
    of = dict(tags)
    return column.series(*(of[t] for t in TAGS), *((own,) if own else ()))

