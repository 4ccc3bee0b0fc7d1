"""The wall clock was set."""

from rca.exhausted import moved_clock
from rca.spec import CauseSpec, Happened, Table

CAUSE = CauseSpec(
    id="clock_jump",
    title="jump of the wall clock",
    mechanism="The wall clock was set by seconds or more; time-outs, leases, certificates and the order of logs break.",
    source="clock_settime(2), adjtimex(2): a clock that is disciplined is slewed, not set",
    alerts=("ClockJumped",),
    tables=(Table(needs=((Happened(("clock_jumped",)),),), supports=(Happened(("unit_restarted", "unit_started")),)),),
    headlines=("The wall clock has jumped",),
    summary=("{claim} {blame:ref}.", "Rates and moments around that time are not to be trusted, those of this report "
             "included."),
    tell_apart="chronyc tracking, or journalctl of the time service; last, who ran date or timedatectl",
    hard=True,
    specific=2,
    blame=moved_clock,
    culprit_needed=False,
)
