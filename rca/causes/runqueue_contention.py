"""Many more runnable tasks than cores."""

from rca.cpu_holders import few_have_the_cores, runnable_crowd
from rca.kernel_actors import core_holders
from rca.spec import CauseSpec, Check, Shown, Table

CAUSE = CauseSpec(
    id="runqueue_contention",
    title="run-queue contention",
    mechanism="Many more tasks want to run than there are cores, so each waits through the turns of all the others.",
    source="Netflix 60-second checklist (r of vmstat above the CPU count); kernel docs accounting/psi, sched-stats",
    alerts=("RunQueueLong", "CpuSaturated", "CpuFull"),
    tables=(Table(
        # Below 6 per core a host is merely full (cpu_saturation); the two are exclusive on purpose.
        needs=((Check("cpu_runnable_per_core", ">=", 6.0),),),
        supports=(
            Check("pressure_cpu_some_ratio", ">=", 0.30, factor=1.5),
            Check("cpu_run_delay_seconds_per_second", ">=", 1.0, factor=2.0),
            Check("sched_run_delay_p99_seconds", ">=", 0.005, factor=2.0),
            Check("cpu_busy_ratio", ">=", 0.90),
            Check("sched_involuntary_switches_per_second", ">=", 100.0, factor=2.0),
            Check("cgroup_run_delay_seconds_per_second", ">=", 0.2, factor=3.0),
            Shown(core_holders),
        ),
        refutes=(Check("cpu_mode_ratio", ">=", 0.15, labels=(("mode", "steal"),),
                       why="the hypervisor takes the time, which makes every queue long"),
                 Shown(few_have_the_cores)),
    ),),
    headlines=("{who} crowds the run queue: {cpu_runnable_per_core} runnable tasks per core",
               "{cpu_runnable_per_core} runnable tasks share each core"),
    summary=(
        "{cpu_runnable_per_core} tasks per core want to run {cpu_runnable_per_core:seen}.",
        "{claim} {blame:ref}.",
        "Together tasks waited for a CPU {cpu_run_delay_seconds_per_second} {cpu_run_delay_seconds_per_second:ref}.",
        "Some task had to wait {pressure_cpu_some_ratio} of the time {pressure_cpu_some_ratio:ref}.",
        "{core_holders:said} {core_holders:ref}.",
    ),
    tell_apart="the runnable tasks per core (/proc/stat, procs_running) tell a crowd from a few hungry tasks",
    explains=("slow_rank", "cpu_saturation", "listen_overflow", "serving_slow_host"),
    specific=1,
    blame=runnable_crowd,
)
