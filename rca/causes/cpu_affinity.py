"""Tasks share a core that is busy while others are idle."""

from rca.crowded_core import core_held, crowded
from rca.spec import CauseSpec, Check, Shown, Table

CAUSE = CauseSpec(
    id="cpu_affinity",
    title="tasks bound to a busy core",
    mechanism="Several tasks may only run on the same core (affinity, cpuset); they queue there while others idle.",
    source="sched_setaffinity(2), cpuset(7); kernel docs accounting/psi",
    alerts=("CoreCrowded", "RunQueueLong"),
    tables=(Table(
        label="cpu",
        needs=(
            (Check("cpu_core_busy_ratio", ">=", 0.90),),
            (Check("cpu_busy_ratio", "<=", 0.85),),
            (Check("pressure_cpu_some_ratio", ">=", 0.40, factor=2.0),),
        ),
        supports=(Check("cpu_run_delay_seconds_per_second", ">=", 0.5, factor=2.0),
                  Check("sched_run_delay_p99_seconds", ">=", 0.002, factor=2.0), Shown(core_held)),
        refutes=(Check("cgroup_cpu_throttled_ratio", ">=", 0.20,
                       why="a group waits for its own quota, which counts as waiting for a CPU"),
                 Check("cpu_mode_ratio", ">=", 0.15, labels=(("mode", "steal"),),
                       why="the hypervisor takes the time")),
    ),),
    headlines=("{core_held:told} does not let others have core {entity}, while other cores are idle",
               "{who} waits for core {entity} while other cores are idle",
               "Tasks wait for core {entity} while other cores are idle"),
    summary=(
        "Core {entity} was busy {cpu_core_busy_ratio} of the time {cpu_core_busy_ratio:seen}, all cores together "
        "only {cpu_busy_ratio} {cpu_busy_ratio:ref}.",
        "Some task waited for a CPU {pressure_cpu_some_ratio} of the time {pressure_cpu_some_ratio:ref}.",
        "{claim} {blame:ref}.",
    ),
    tell_apart="taskset -p and cpuset.cpus of the tasks that wait: whether they may run anywhere else",
    specific=2,
    blame=crowded,
)
