"""A few CPU-hungry tasks use all cores."""

from rca.cpu_holders import crowded
from rca.culprits import cpu_hog
from rca.kernel_actors import core_holders
from rca.spec import CauseSpec, Check, Shown, Table

STEAL = (("mode", "steal"),)

CAUSE = CauseSpec(
    id="cpu_saturation",
    title="CPU saturation",
    mechanism="A few tasks compute all the time and leave no core idle, so everybody else waits for a turn.",
    source="USE method (Gregg): utilisation near 100 % with a run queue; kernel docs accounting/psi",
    alerts=("CpuSaturated", "CpuFull", "RunQueueLong"),
    tables=(Table(
        needs=((Check("cpu_busy_ratio", ">=", 0.90),),),
        supports=(
            Check("pressure_cpu_some_ratio", ">=", 0.10, factor=1.5),
            Check("cpu_run_delay_seconds_per_second", ">=", 0.20, factor=2.0),
            Check("sched_run_delay_p99_seconds", ">=", 0.002, factor=2.0),
            Check("cpu_runnable_per_core", ">=", 1.0, factor=1.5),
            Check("sched_involuntary_switches_per_second", ">=", 100.0, factor=2.0),
            Check("cgroup_run_delay_seconds_per_second", ">=", 0.2, factor=3.0),
            Shown(core_holders),
        ),
        refutes=(
            Shown(crowded),
            Check("cpu_mode_ratio", ">=", 0.15, labels=STEAL, why="the hypervisor takes the time, no task here"),
        ),
    ),),
    headlines=("{who} keeps {all_cpus} busy", "A few tasks keep {all_cpus} busy"),
    summary=(
        "{cpu_busy_ratio} of the CPU time is in use {cpu_busy_ratio:seen}.",
        "{claim} {blame:ref}.",
        "Some task had to wait for a CPU {pressure_cpu_some_ratio} of the time {pressure_cpu_some_ratio:ref}.",
        "{cpu_runnable_per_core} runnable tasks share a core {cpu_runnable_per_core:ref}: a few that compute, and "
        "those that wait for them.",
        "{core_holders:said} {core_holders:ref}.",
    ),
    tell_apart="cpu_busy_ratio and two process tables a few seconds apart show whether few tasks use all CPU time",
    explains=("slow_rank", "listen_overflow", "serving_slow_host"),
    specific=0,
    blame=cpu_hog,
)
