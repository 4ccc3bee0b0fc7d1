"""A GPU job has come to a stop: its ranks wait for one that does not come."""

from rca.job_stall import blame, ended, last_to_come
from rca.spec import CauseSpec, Check, Happened, Shown, Table

READS = ("gpu_job_silent_seconds", "gpu_job_process_id", "gpu_job_rank_gone", "gpu_job_iteration_seconds")

CAUSE = CauseSpec(
    id="job_stalled",
    title="a GPU job that has stopped",
    mechanism="Ranks of a job wait in a collective for one that does not come to it: it has ended, hangs, or does "
              "something else for minutes.",
    source="DLRover hang diagnosis, xpu_timer (300 s without a collective); NCCL user guide (collectives block)",
    alerts=("JobStalled",),
    tables=(Table(
        label="job",
        needs=((Check("gpu_job_stalled_seconds", ">=", 5.0, "last"),),),
        supports=(Shown(ended, READS), Shown(last_to_come, READS),
                  Happened(("gpu_lost", "gpu_xid", "gpu_minor_xid", "gpu_program_xid")), Happened(("oom_kill",)),
                  Check("task_stuck_seconds_max", ">=", 10.0, "peak")),
    ),),
    headlines=("Job {entity} has stopped: {who} does not come to the collective that the others wait in",
               "Job {entity} has stopped: no rank has begun a collective since"),
    summary=(
        "No rank of the job has begun a collective for {gpu_job_stalled_seconds} {gpu_job_stalled_seconds:ref}.",
        "{ended:said} {ended:ref}.",
        "{last:said} {last:ref}.",
        "The driver of a GPU reported an error {gpu_lost:ref}.",
        "The kernel killed a process for lack of memory {oom_kill:ref}.",
        "A task hangs in the kernel for {task_stuck_seconds_max} {task_stuck_seconds_max:ref}.",
        "{claim} {blame:ref}.",
    ),
    tell_apart="py-spy dump of every rank: who is in the collective, and who is not",
    hard=True,
    specific=3,
    blame=blame,
    culprit_needed=False,
)
