"""Hard rules on GPUs: heat, power, links, memory; thresholds are those of detectors.rules."""

from typing import TYPE_CHECKING

from detectors.rule import Condition, Op, Rule

if TYPE_CHECKING:
    from detectors.rules import Config


def gpu_rules(c: "Config") -> tuple[Rule, ...]:
    """Rules on GPUs with the thresholds of c."""
    nvml = "NVML API reference"
    heat = "gpu_throttle_thermal_ratio"
    return (
        Rule("GpuThrottled", (Condition(heat, ">=", c.gpu_thermal_throttle_ratio),),
             "the GPU lowers its clocks because it is hot", nvml),
        Rule("GpuEccErrors", (Condition("gpu_ecc_uncorrected_per_second", ">=", c.errors_per_second),),
             "GPU memory returned wrong data", nvml),
        Rule("GpuPowerBrake", (Condition("gpu_throttle_brake_ratio", ">=", c.gpu_brake_ratio),),
             "the power supply tells the GPU to draw less", nvml),
        Rule("GpuPowerBrake",
             (Condition(heat, "<=", c.gpu_cool_ratio),
              Condition("gpu_clock_event_ratio", ">=", c.gpu_hardware_slowdown_ratio, (("reason", "hardware"),))),
             "hardware halves the clocks, and not for heat", nvml),
        # A power cap at full load is how a GPU works; one that somebody set below the maker's is not.
        Rule("GpuPowerCapped",
             (Condition("gpu_throttle_power_ratio", ">=", c.gpu_power_throttle_ratio),
              Condition("gpu_power_limit_ratio", "<=", c.gpu_power_limit_ratio)),
             "a limit below that of the maker holds the clocks down", nvml),
        Rule("GpuClocksLow",
             (Condition("gpu_utilization_ratio", ">=", c.gpu_busy_ratio),
              Condition("gpu_sm_clock_ratio", "<=", c.gpu_clock_ratio),
              Condition("gpu_clock_event_ratio", ">=", c.gpu_clock_setting_ratio, (("reason", "setting"),))),
             "clocks that somebody set hold a busy GPU down", nvml),
        Rule("JobStalled", (Condition("gpu_job_stalled_seconds", ">=", c.gpu_job_stalled_seconds),),
             "all ranks wait, and have for minutes", "DLRover and xpu_timer, hang detection (300 s)"),
        *_gpu_links(c, nvml), *_gpu_memory(c, nvml),
    )


def _gpu_links(c: "Config", nvml: str) -> tuple[Rule, ...]:
    busy = Condition("gpu_utilization_ratio", ">=", c.gpu_busy_ratio)
    errors, checksum, repair = ("gpu_nvlink_errors_per_second", c.gpu_nvlink_checksums_per_second,
                                c.gpu_nvlink_repairs_per_second)
    limits = {"flit_checksum": checksum, "data_checksum": checksum, "replay": repair, "recovery": repair}
    return (
        # The generation falls when the link is idle, which is no fault; lanes do not. A slow link keeps a GPU from
        # being busy, so little work is enough.
        Rule("GpuPcieDegraded", (Condition("gpu_utilization_ratio", ">=", c.gpu_working_ratio),
                                 Condition("gpu_pcie_link_width_ratio", "<=", c.gpu_pcie_width_ratio)),
             "the link has lost lanes", nvml),
        Rule("GpuPcieDegraded", (busy, Condition("gpu_pcie_link_generation_ratio", "<=", c.gpu_pcie_generation_ratio)),
             "the link runs at a lower speed than both ends can do, although the GPU is busy", nvml),
        Rule("GpuRecoveryNeeded", (Condition("gpu_recovery_action", ">=", c.gpu_flag),),
             "the driver itself says that the GPU needs a recovery", nvml),
        Rule("GpuMigEmpty", (Condition("gpu_mig_instances", "<=", c.gpu_flag),),
             "MIG is on and nobody can use the GPU", nvml),
        Rule("GpuNvlinkDown", (Condition("gpu_nvlink_links_down", ">=", c.gpu_flag),),
             "a link that has worked, or works on the siblings, does not", nvml),
        *(Rule("GpuNvlinkErrors", (Condition(errors, ">=", limit, (("type", kind),)),),
               "what crosses the link must be sent again", "NVIDIA DCGM, NVLink health")
          for kind, limit in limits.items()),
    )


def _use(op: Op, threshold: float) -> Condition:
    """Use of a GPU: over a minute where it comes and goes in a rhythm of seconds, else of this second."""
    now = Condition("gpu_utilization_ratio", op, threshold)
    return Condition("gpu_utilization_rhythm_ratio", op, threshold, instead=now)


def _gpu_memory(c: "Config", nvml: str) -> tuple[Rule, ...]:
    starved = (Condition("gpu_memory_used_ratio", ">=", c.gpu_starved_held_ratio),
               _use("<=", c.gpu_starved_most_ratio), _use(">=", c.gpu_starved_least_ratio))
    errors = "NVIDIA, GPU memory error management"
    return (
        Rule("GpuRowRemapPending", (Condition("gpu_rows_remap_pending", ">=", c.gpu_flag),),
             "memory waits for a reset to be repaired", errors),
        Rule("GpuRowRemapPending", (Condition("gpu_pages_retire_pending", ">=", c.gpu_flag),),
             "memory waits for a reset to be taken out of use", errors),
        Rule("GpuRowRemapFailed", (Condition("gpu_rows_remap_failed", ">=", c.gpu_flag),),
             "memory could not be repaired", errors),
        # A model that is on the CPU as a whole may be there on purpose; in two parts it is nobody's wish.
        Rule("ModelPartlyOnCpu", (Condition("inference_gpu_resident_ratio", "<=", c.gpu_resident_ratio),
                                  Condition("inference_gpu_resident_ratio", ">=", c.gpu_resident_least_ratio)),
             "each token waits for the part that the CPU computes", "Ollama docs/faq (ollama ps)"),
        Rule("GpuMemoryFull", (Condition("gpu_memory_used_ratio", ">=", c.gpu_memory_full_ratio),),
             "the next allocation on the GPU is about to fail", nvml),
        *(Rule("GpuStarved", (*starved, Condition(f"pressure_{what}_some_ratio", ">=", c.gpu_starved_pressure_ratio)),
               "the GPU works in pieces while its host is short of what feeds it", nvml) for what in ("cpu", "io")),
    )
