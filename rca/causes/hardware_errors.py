"""Memory or a processor reports an error, or a processor protects itself from heat."""

from rca.spec import CauseSpec, Check, Happened, Table

CAUSE = CauseSpec(
    id="hardware_errors",
    title="errors of memory or processors",
    mechanism="Memory or a processor found an error that it could not correct, or slows down because it is too hot.",
    source="kernel docs admin-guide/ras, x86/x86_64/machinecheck; messages of drivers/edac and arch/x86/kernel/cpu/mce",
    alerts=("MemoryError", "MachineCheck", "CpuThrottled"),
    tables=(Table(
        needs=((Happened(("memory_error",)), Happened(("machine_check",)), Happened(("cpu_throttled",))),),
        supports=(Check("hardware_memory_errors_per_second", ">=", 1e-6, "peak"),
                  Check("hardware_cpu_throttles_per_second", ">=", 1e-6, "peak"),
                  Check("hardware_temperature_headroom_celsius", "<=", 3.0, "low")),
    ),),
    headlines=("Memory or a processor reports errors",),
    summary=(
        "Memory returned data that could not be corrected {memory_error:ref}.",
        "The processor reported a machine check {machine_check:ref}.",
        "The processor lowered its clock because it is too hot {cpu_throttled:ref}.",
        "A sensor is {hardware_temperature_headroom_celsius} below its critical temperature "
        "{hardware_temperature_headroom_celsius:ref}.",
    ),
    tell_apart="which module or socket the kernel log names, and whether it is the same one each time",
    hard=True,
    specific=3,
    culprit_needed=False,
)
