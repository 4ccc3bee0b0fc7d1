"""A process was stopped by a signal and does nothing."""

from rca.exhausted import stopped_process
from rca.spec import CauseSpec, Check, Happened, Table

CAUSE = CauseSpec(
    id="process_stopped",
    title="stopped process",
    mechanism="A signal (SIGSTOP, SIGTSTP) has stopped a process; it keeps its connections and serves nobody.",
    source="signal(7): SIGSTOP; proc_pid_stat(5): state T",
    alerts=("ProcessStopped",),
    tables=(Table(
        label="pid",
        needs=((Happened(("process_stopped",)),),),
        supports=(Check("tcp_listen_overflows_per_second", ">=", 0.5, "mean", 3.0),
                  Check("tcp_syn_retransmits_per_second", ">=", 0.5, "mean", 3.0)),
    ),),
    headlines=("{who} is stopped and does nothing",),
    summary=(
        "{claim} {blame:ref}.",
        "Connections to a full accept queue are turned away meanwhile {tcp_listen_overflows_per_second:ref}.",
    ),
    tell_apart="the state of the process (ps -o stat=): T is stopped, t is traced by a debugger",
    explains=("listen_overflow", "packet_loss", "connect_failures", "close_wait_leak"),
    hard=True,
    specific=3,
    blame=stopped_process,
    culprit_needed=False,
)
