"""A program does not close connections that its peers have closed."""

from rca.socket_culprits import careless, closed_since
from rca.spec import CauseSpec, Check, Happened, Shown, Table

WAITING = (("state", "close_wait"),)

CAUSE = CauseSpec(
    id="close_wait_leak",
    title="connections that are never closed",
    mechanism="A program does not close connections whose peers are done (CLOSE_WAIT); each of them keeps a file "
    "descriptor and memory until the program may open no more.",
    source="RFC 9293, 3.6 (CLOSE-WAIT); tcp(7), close(2)",
    alerts=("CloseWaitPile",),
    tables=(Table(
        label="endpoint",
        needs=((Happened(("close_wait_pile",)),),),
        supports=(Check("tcp_state_sockets", ">=", 64.0, "peak", labels=WAITING),
                  Check("net_close_wait_sockets", ">=", 64.0, "peak"),
                  Check("task_fds_used_ratio_max", ">=", 0.50, "peak")),
        refutes=(Shown(closed_since, ("tcp_state_sockets", "net_close_wait_sockets")),),
    ),),
    headlines=("{who} does not close its connections", "Connections at {entity} are never closed"),
    summary=(
        "{claim} {blame:ref}.",
        "A peer that closes leaves this end in CLOSE_WAIT until the program closes it as well; no timer of the kernel "
        "does so.",
        "Sockets in CLOSE_WAIT: {tcp_state_sockets} {tcp_state_sockets:seen}.",
        "A client that takes the same local port again meets the old connection and is turned away.",
        "Open files of the process nearest to its limit: {task_fds_used_ratio_max} {task_fds_used_ratio_max:ref}.",
    ),
    tell_apart="ss -tanp state close-wait, twice: the same sockets are there again",
    explains=("process_fds_exhausted", "listen_overflow", "packet_loss", "connect_failures"),
    hard=True,
    specific=3,
    blame=careless,
    culprit_needed=False,
)
