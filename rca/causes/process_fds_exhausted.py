"""A process has as many files open as it may."""

from rca.exhausted import file_holder
from rca.spec import CauseSpec, Check, Happened, Table

CAUSE = CauseSpec(
    id="process_fds_exhausted",
    title="open files of a process used up",
    mechanism="A process has as many files and sockets open as its RLIMIT_NOFILE allows; open, accept and socket fail "
    "with EMFILE.",
    source="getrlimit(2): RLIMIT_NOFILE; open(2), accept(2): EMFILE; proc_pid_fd(5)",
    alerts=("FdsExhausted",),
    tables=(Table(
        label="pid",
        needs=((Happened(("fds_exhausted",)),),),
        supports=(Check("task_fds_used_ratio_max", ">=", 0.90, "peak"),
                  Check("tcp_established", ">=", 1000.0, factor=2.0),
                  Check("tcp_listen_overflows_per_second", ">=", 1.0, "mean", 3.0)),
    ),),
    headlines=("{who} has run out of file descriptors",),
    summary=(
        "{claim} {blame:ref}.",
        "Whatever it tries to open or to accept next fails with EMFILE; the host itself has handles left.",
        "Its listening socket overflows meanwhile {tcp_listen_overflows_per_second:ref}.",
    ),
    tell_apart="the number of entries in /proc/PID/fd against 'Max open files' in /proc/PID/limits",
    explains=("listen_overflow",),
    hard=True,
    specific=3,
    blame=file_holder,
    culprit_needed=False,
)
