"""No process or thread can be started any more."""

from rca.culprits import most_tasks
from rca.spec import CauseSpec, Check, Table

CAUSE = CauseSpec(
    id="pids_exhausted",
    title="process ids used up",
    mechanism="The host or a group has as many processes and threads as it may have, so fork fails with EAGAIN.",
    source="fork(2): EAGAIN; kernel docs admin-guide/sysctl/kernel (pid_max, threads-max), cgroup-v1/pids",
    alerts=("PidsExhausted",),
    tables=(
        Table(needs=((Check("kernel_pids_used_ratio", ">=", 0.90, "last"),),)),
        Table(
            label="cgroup",
            needs=((Check("cgroup_pids_used_ratio", ">=", 0.95, "last"),),),
            headlines=("{entity} may start no more tasks ({cgroup_pids_used_ratio} of its limit)",),
            summary=("{entity} has {cgroup_pids_used_ratio} of the tasks it may have {cgroup_pids_used_ratio:ref}.",
                     "{claim} {blame:ref}."),
        ),
    ),
    headlines=("The host runs out of process ids ({kernel_pids_used_ratio})",),
    summary=("{kernel_pids_used_ratio} of the process ids are in use {kernel_pids_used_ratio:seen}.",
             "{claim} {blame:ref}."),
    tell_apart="the number of tasks against kernel.pid_max, kernel.threads-max and pids.max of each group",
    explains=("exhaustion_ahead",),
    hard=True,
    specific=3,
    blame=most_tasks,
    culprit_needed=False,
)
