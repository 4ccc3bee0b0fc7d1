"""One pipeline stage of a GPU job has more to compute than the others, which wait for it; no rank is to blame."""

from rca.gpu_job_wholes import agree, longer, others_wait
from rca.spec import CauseSpec, Shown, Table

READS = ("gpu_job_own_seconds", "gpu_job_role")

CAUSE = CauseSpec(
    id="stage_imbalance",
    title="an uneven split of a GPU job",
    mechanism="One pipeline stage has more to compute than the others; in every iteration these wait for it.",
    source="Lin et al. 2025, what-if analysis of stragglers (arXiv 2505.05713), stage imbalance",
    alerts=("StageImbalance",),
    tables=(Table(
        label="stage",
        needs=((Shown(longer("stage"), READS),),),
        supports=(Shown(others_wait("stage"), ("gpu_job_sync_blocked_ratio", "gpu_job_role")), Shown(agree, READS)),
    ),),
    headlines=("Stage {entity} of a GPU job has more work than the others, which wait for it",),
    summary=(
        "It needs {gpu_job_own_seconds:told} {gpu_job_own_seconds:ref}.",
        "The ranks of the other stages wait for it: {gpu_job_sync_blocked_ratio:told} "
        "{gpu_job_sync_blocked_ratio:ref}.",
        "{agree:said}, so the work is uneven and no rank is slow {agree:ref}.",
    ),
    tell_apart="with the own time of every rank and its role (collector gpu_jobs)",
    specific=3,
    culprit_needed=False,
)
