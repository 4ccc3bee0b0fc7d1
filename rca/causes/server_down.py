"""An inference server does not answer any more."""

from rca.serving import process_gone, serving_process
from rca.serving_phases import started_again
from rca.spec import CauseSpec, Check, Happened, Shown, Table

LOOP = 2
"""Starts in vain from which it is more than one restart that takes its time."""
_DOWN = (Check("inference_server_up", "<=", 0.5, "last"),)
_SEEN = (Shown(process_gone), Happened(("oom_kill",)),
         Happened(("gpu_xid", "gpu_minor_xid", "gpu_program_xid", "gpu_lost")))

CAUSE = CauseSpec(
    id="server_down",
    title="inference server down",
    mechanism="An inference server that was at work ended, or hangs and no longer answers on its own metrics page.",
    source="vLLM docs/usage/troubleshooting.md; HTTP status of the metrics page",
    alerts=("ServingDown",),
    tables=(
        Table(label="server", needs=(_DOWN, (started_again(LOOP),)), supports=_SEEN,
              headlines=("{entity} is started again and again and ends before it answers",)),
        Table(label="server", needs=(_DOWN,), supports=(*_SEEN, started_again(1)), refutes=(started_again(LOOP),)),
    ),
    headlines=("{entity} does not answer",),
    summary=(
        "The inference server {entity} no longer answers {inference_server_up:ref}.",
        "{claim} {blame:ref}.",
        "Its process is gone {server_gone:ref}.",
        "{starts:said} {starts:ref}.",
        "The kernel killed a process for lack of memory {oom_kill:ref}.",
    ),
    tell_apart="whether its process is there, and what its own log says last",
    hard=True,
    specific=3,
    blame=serving_process,
    culprit_needed=False,
)
