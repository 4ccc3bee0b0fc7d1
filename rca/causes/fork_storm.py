"""Processes are started faster than is sane."""

from rca.cpu_holders import beyond_forks, several_programs, work_beyond_forks
from rca.culprits import fork_parent
from rca.spec import CauseSpec, Check, Shown, Table

NEEDED = ("cpu_mode_ratio",)
STARTED = ("process_exec_repeats_per_second", "process_execs_per_second")

CAUSE = CauseSpec(
    id="fork_storm",
    title="fork storm",
    mechanism="Something starts processes in a tight loop; making and burying them costs more than their work.",
    source="own rule: hundreds of new tasks a second and several times the usual rate (/proc/stat processes)",
    alerts=("ForkStorm", "CpuSaturated", "CpuFull", "RunQueueLong", "PidsExhausted"),
    tables=(Table(
        needs=((Check("process_forks_per_second", ">=", 200.0, factor=4.0),
                Check("cpu_forks_per_second", ">=", 200.0, factor=4.0)),),
        supports=(
            Check("cpu_forks_per_second", ">=", 150.0, factor=3.0),
            Check("process_exits_per_second", ">=", 100.0, factor=3.0),
            Check("cpu_mode_ratio", ">=", 0.25, labels=(("mode", "system"),), factor=2.0),
            Check("pressure_cpu_some_ratio", ">=", 0.10, factor=1.5),
            Check("kernel_pids_used_ratio", ">=", 0.30, factor=2.0),
        ),
        refutes=(Shown(beyond_forks, NEEDED), Shown(work_beyond_forks, NEEDED), Shown(several_programs, STARTED)),
    ),),
    headlines=("{who} starts processes in a storm: {process_forks_per_second}",
               "{who} starts processes in a storm: {cpu_forks_per_second}",
               "Processes are started in a storm"),
    summary=(
        "New processes and threads appear at {cpu_forks_per_second} {cpu_forks_per_second:seen}.",
        "{claim} {blame:ref}.",
        "The kernel itself uses {cpu_mode_ratio} of the CPU time {cpu_mode_ratio:ref}, to make and bury them among "
        "other things.",
    ),
    tell_apart="new processes per second (/proc/stat) and their parents (eBPF process, or ppid in /proc/PID/stat)",
    explains=("cpu_saturation", "runqueue_contention", "pids_exhausted"),
    specific=2,
    blame=fork_parent,
)
