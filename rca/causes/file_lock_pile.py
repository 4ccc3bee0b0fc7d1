"""Several tasks wait for a file lock that one process does not give back."""

from rca.exhausted import lock_holder
from rca.spec import CauseSpec, Check, Happened, Table

CAUSE = CauseSpec(
    id="file_lock_pile",
    title="file lock that is not given back",
    mechanism="One process holds a file lock (flock, fcntl) and does not give it back, so those who want it wait for "
    "ever and pile up.",
    source="flock(2), fcntl(2); proc_locks(5): '->' marks who is blocked",
    alerts=("FileLockPile",),
    tables=(Table(
        label="lock",
        needs=((Happened(("file_lock_pile",)),),),
        supports=(Check("file_lock_waiters_of_one_max", ">=", 1.0, "peak"),),
    ),),
    headlines=("{who} holds a file lock that others wait for", "A file lock is not given back"),
    summary=("{claim} {blame:ref}.",
             "They use no CPU time and fail with nothing: without a time-out of their own they wait for ever."),
    tell_apart="lslocks -o COMMAND,PID,TYPE,PATH,BLOCKER twice: the same BLOCKER is there again",
    explains=(),
    hard=True,
    specific=3,
    blame=lock_holder,
    culprit_needed=False,
)
