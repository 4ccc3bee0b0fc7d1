"""One replica of a GPU job computes longer in all its stages: its data or its part of the machine, not one rank."""

from rca.gpu_job_wholes import longer, others_wait
from rca.spec import CauseSpec, Shown, Table

READS = ("gpu_job_own_seconds", "gpu_job_role")

CAUSE = CauseSpec(
    id="slow_replica",
    title="a slow replica of a GPU job",
    mechanism="The ranks of one replica, which see the same data, take longer in every stage, and all others wait.",
    source="Lin et al. 2025, what-if analysis of stragglers (arXiv 2505.05713), sequence-length imbalance",
    alerts=("ReplicaSlow",),
    tables=(Table(
        label="replica",
        needs=((Shown(longer("replica"), READS),),),
        supports=(Shown(others_wait("replica"), ("gpu_job_sync_blocked_ratio", "gpu_job_role")),),
    ),),
    headlines=("Replica {entity} of a GPU job is slow in all its stages, and the others wait for it",),
    summary=(
        "It needs {gpu_job_own_seconds:told} {gpu_job_own_seconds:ref}.",
        "The ranks of the other replicas wait for it: {gpu_job_sync_blocked_ratio:told} "
        "{gpu_job_sync_blocked_ratio:ref}.",
        "It is slow in every stage, which its data explains better than any one rank.",
    ),
    tell_apart="with the own time of every rank and its role (collector gpu_jobs)",
    specific=3,
    culprit_needed=False,
)
