"""All TCP sockets together hold as much memory as they may."""

from rca.socket_culprits import memory_hog
from rca.spec import CauseSpec, Check, Happened, Table

CAUSE = CauseSpec(
    id="tcp_memory_short",
    title="memory of TCP sockets used up",
    mechanism="All TCP sockets together reach net.ipv4.tcp_mem, or too many of them belong to nobody any more; the "
    "kernel cuts buffers down, drops segments and resets connections.",
    source="kernel docs networking/ip-sysctl (tcp_mem, tcp_max_orphans); net/ipv4/tcp.c",
    alerts=("TcpMemoryShort",),
    tables=(Table(
        needs=((Happened(("tcp_memory_short",)),
                Check("tcp_memory_used_ratio", ">=", 0.95, "peak"),
                Check("tcp_memory_pressure_ratio", ">=", 0.10, "mean")),),
        supports=(Check("tcp_memory_used_ratio", ">=", 0.95, "peak"),
                  Check("tcp_memory_pressure_ratio", ">=", 0.10, "mean"),
                  Check("tcp_memory_pages", ">=", 10_000.0, factor=2.0),
                  Check("tcp_orphans", ">=", 1000.0, factor=3.0),
                  Check("net_drops_per_second", ">=", 1.0, "mean", 3.0, labels=(("reason", "PROTO_MEM"),))),
    ),),
    headlines=("Sockets of {who} use up the memory of TCP", "The memory of TCP sockets is used up"),
    summary=(
        "The kernel says so in its log {tcp_memory_short:ref}.",
        "They hold {tcp_memory_used_ratio} of the memory from which on the kernel cuts their buffers down "
        "{tcp_memory_used_ratio:ref}.",
        "Over the pressure mark for {tcp_memory_pressure_ratio} of the time {tcp_memory_pressure_ratio:ref}.",
        "Pages that TCP sockets hold: {tcp_memory_pages} {tcp_memory_pages:seen}.",
        "{tcp_orphans} of the sockets belong to no process any more {tcp_orphans:ref}.",
        "{claim} {blame:ref}.",
    ),
    tell_apart="/proc/net/sockstat (mem, orphan) against net.ipv4.tcp_mem and tcp_max_orphans; ss -tm",
    explains=("packet_loss",),
    hard=True,
    specific=3,
    blame=memory_hog,
    culprit_needed=False,
)
