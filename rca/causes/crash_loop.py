"""A service ends and is started again, over and over."""

from rca.services import looping
from rca.spec import CauseSpec, Check, Happened, Table

CAUSE = CauseSpec(
    id="crash_loop",
    title="crash loop",
    mechanism="A program ends by an error soon after its start, and whoever supervises it starts it again at once.",
    source="systemd.service(5): Restart=, StartLimitBurst=; signal(7): signals whose default is a core dump",
    alerts=("CrashLoop",),
    tables=(Table(
        label="program",
        needs=((Happened(("crash_loop",)),),),
        supports=(Happened(("segfault",)), Happened(("unit_restarted",)), Happened(("unit_restarts",)),
                  Happened(("unit_failed",)), Happened(("oom_kill",)),
                  Check("process_execs_per_second", ">=", 1.0, "mean", 2.0)),
    ),),
    headlines=("{who} is in a crash loop",),
    summary=(
        "{claim} {blame:ref}.",
        "In the end systemd gave it up {unit_failed:ref}.",
        "The kernel reports a crash of it {segfault:ref}.",
        "The kernel killed a process for lack of memory in that time {oom_kill:ref}.",
    ),
    tell_apart="the exit status and the last lines of the log of each run (systemctl status, journalctl -u)",
    hard=True,
    specific=3,
    blame=looping,
    culprit_needed=False,
)
