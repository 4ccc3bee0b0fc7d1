"""The table of neighbours is full."""

from rca.socket_culprits import neighbour_maker
from rca.spec import CauseSpec, Check, Happened, Table

CAUSE = CauseSpec(
    id="neighbour_table_full",
    title="full table of neighbours",
    mechanism="The kernel knows the hardware addresses of as many hosts as it may (gc_thresh3); packets to any further "
    "host of the same networks are dropped.",
    source="kernel docs networking/ip-sysctl (neigh/default/gc_thresh3); net/core/neighbour.c",
    alerts=("NeighbourTableFull",),
    tables=(Table(
        label="family",
        needs=((Check("neighbour_overflows_per_second", ">=", 0.3, "mean"),),),
        supports=(Check("neighbour_used_ratio", ">=", 0.90, "peak"),
                  Happened(("neighbour_crowd",)),
                  Check("neighbour_failures_per_second", ">=", 1.0, "mean", 3.0),
                  Check("net_drops_per_second", ">=", 1.0, "mean", 3.0,
                        labels=(("reason", "NEIGH_CREATEFAIL"),))),
        refutes=(Check("neighbour_used_ratio", "<=", 0.50, "peak", why="the table has room"),),
    ),),
    headlines=("{who} fills the table of {entity} neighbours", "The table of {entity} neighbours is full"),
    summary=(
        "Neighbours that find no place in the table: {neighbour_overflows_per_second} "
        "{neighbour_overflows_per_second:seen}; it is filled to {neighbour_used_ratio} {neighbour_used_ratio:ref}.",
        "{claim} {blame:ref}.",
        "Neighbours that do not answer: {neighbour_failures_per_second} {neighbour_failures_per_second:ref}.",
        "Some hosts of our own networks can be reached meanwhile and others cannot.",
    ),
    tell_apart="/proc/net/stat/arp_cache (entries, table_fulls) against net.ipv4.neigh.default.gc_thresh3",
    explains=("packet_loss", "connect_failures"),
    hard=True,
    specific=3,
    blame=neighbour_maker,
    culprit_needed=False,
)
