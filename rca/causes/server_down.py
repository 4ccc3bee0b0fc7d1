"""An inference server does not answer any more."""

from rca.serving import process_gone, serving_process
from rca.spec import CauseSpec, Check, Happened, Shown, Table

CAUSE = CauseSpec(
    id="server_down",
    title="inference server down",
    mechanism="An inference server that was at work ended, or hangs and no longer answers on its own metrics page.",
    source="vLLM docs/usage/troubleshooting.md; HTTP status of the metrics page",
    alerts=("ServingDown",),
    tables=(Table(
        label="server",
        needs=((Check("inference_server_up", "<=", 0.5, "last"),),),
        supports=(Shown(process_gone), Happened(("oom_kill",)),
                  Happened(("gpu_xid", "gpu_minor_xid", "gpu_program_xid", "gpu_lost"))),
    ),),
    headlines=("{entity} does not answer",),
    summary=(
        "The inference server {entity} no longer answers {inference_server_up:ref}.",
        "{claim} {blame:ref}.",
        "Its process is gone {server_gone:ref}.",
        "The kernel killed a process for lack of memory {oom_kill:ref}.",
    ),
    tell_apart="whether its process is there, and what its own log says last",
    hard=True,
    specific=3,
    blame=serving_process,
    culprit_needed=False,
)
