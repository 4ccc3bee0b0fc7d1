"""A user has as many tasks as it may."""

from rca.exhausted import task_owner
from rca.spec import CauseSpec, Check, Happened, Table

CAUSE = CauseSpec(
    id="user_tasks_exhausted",
    title="tasks of a user used up",
    mechanism="All processes of a user together have as many threads as RLIMIT_NPROC allows; fork and pthread_create "
    "fail with EAGAIN.",
    source="getrlimit(2): RLIMIT_NPROC; fork(2): EAGAIN",
    alerts=("UserTasksExhausted",),
    tables=(Table(
        label="uid",
        needs=((Happened(("user_tasks_exhausted",)),),),
        supports=(Check("task_user_tasks_used_ratio_max", ">=", 0.90, "peak"),
                  Check("task_threads", ">=", 500.0, factor=1.5)),
    ),),
    headlines=("User id {entity} may start no more tasks; {who} meets the limit",
               "User id {entity} may start no more tasks"),
    summary=("{claim} {blame:ref}.", "Its next fork or new thread fails with EAGAIN; other users are not affected."),
    tell_apart="threads of the user against 'Max processes' in /proc/PID/limits",
    hard=True,
    specific=3,
    blame=task_owner,
    culprit_needed=False,
)
