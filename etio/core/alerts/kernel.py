"""What the kernel says of hardware and of itself."""

from etio.core.alerts.kind import AlertKind

KINDS = (
    AlertKind("SoftLockup", "critical", (), "{entity} is stuck in the kernel", for_s=0, clear_s=60, model="asset",
              events=("soft_lockup", "hard_lockup", "rcu_stall")),
    AlertKind("KernelOops", "critical", (), "the kernel met an error of its own", for_s=0, clear_s=60, model="asset",
              events=("kernel_oops",)),
    AlertKind("MemoryError", "critical", (), "{entity} has an uncorrectable memory error", for_s=0, clear_s=60,
              model="asset", events=("memory_error",)),
    AlertKind("MachineCheck", "critical", (), "{entity} reported a hardware error", for_s=0, clear_s=60, model="asset",
              events=("machine_check",)),
    AlertKind("PcieError", "critical", (), "{entity} has a PCIe error", for_s=0, clear_s=60, model="asset",
              events=("pcie_error",)),
    AlertKind("ErrorsCorrected", "info", (), "{entity} corrected errors of the hardware", for_s=0, clear_s=600,
              explain=False, model="asset",
              events=("memory_error_corrected", "machine_check_corrected", "pcie_error_corrected")),
    AlertKind("ClockJumped", "warning", (), "the wall clock was set", for_s=0, clear_s=60, events=("clock_jumped",)),
)
