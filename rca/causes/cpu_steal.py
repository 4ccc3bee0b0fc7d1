"""The hypervisor gives the CPU time of this machine to others."""

from rca.culprits import hypervisor
from rca.spec import CauseSpec, Check, Table

CAUSE = CauseSpec(
    id="cpu_steal",
    title="CPU time taken by the hypervisor",
    mechanism="Other guests use the physical CPUs, so the CPUs of this machine stand still although they have work.",
    source="proc(5), steal; Netflix 60-second checklist (st above 5 to 10 %)",
    alerts=("CpuStealHigh", "CpuSaturated", "CpuFull", "RunQueueLong"),
    tables=(Table(
        needs=((Check("cpu_mode_ratio", ">=", 0.10, factor=2.0, labels=(("mode", "steal"),)),),),
        supports=(
            Check("pressure_cpu_some_ratio", ">=", 0.05, factor=1.5),
            Check("cpu_run_delay_seconds_per_second", ">=", 0.10, factor=2.0),
            Check("sched_run_delay_p99_seconds", ">=", 0.002, factor=2.0),
        ),
    ),),
    headlines=("The hypervisor takes {cpu_mode_ratio} of the CPU time away",),
    summary=(
        "{cpu_mode_ratio} of the time this machine was ready to compute but got no CPU {cpu_mode_ratio:seen}.",
        "Some task had to wait for a CPU {pressure_cpu_some_ratio} of the time {pressure_cpu_some_ratio:ref}.",
        "Nothing inside this machine can mend that.",
    ),
    tell_apart="the steal column of /proc/stat",
    explains=("cpu_saturation", "runqueue_contention"),
    specific=2,
    blame=hypervisor,
    culprit_needed=False,
)
