"""The kernel has given out as much of something as it may: asynchronous I/O, keys, semaphores, terminals."""

from rca.exhausted import quota_holder
from rca.spec import CauseSpec, Check, Happened, Table

CAUSE = CauseSpec(
    id="quota_exhausted",
    title="quota of the kernel used up",
    mechanism="As many asynchronous I/O requests, keys, System V objects or terminals are in use as the kernel gives "
    "out; whoever asks for one more is refused, with words that speak of disk space or of trying again.",
    source="io_setup(2): EAGAIN; add_key(2): EDQUOT; semget(2), shmget(2), msgget(2): ENOSPC; pty(7)",
    alerts=("QuotaExhausted",),
    tables=(Table(
        label="quota",
        needs=((Happened(("quota_exhausted",)),),),
        supports=(Check("kernel_quota_used_ratio", ">=", 0.85, "last"),),
    ),),
    headlines=("The kernel gives out no more {entity}",),
    summary=("{claim} {blame:ref}.",),
    tell_apart="fs.aio-nr against fs.aio-max-nr; /proc/key-users; ipcs -l and ipcs -u; kernel.pty.nr",
    hard=True,
    specific=3,
    blame=quota_holder,
    culprit_needed=False,
)
