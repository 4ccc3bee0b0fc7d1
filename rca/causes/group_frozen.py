"""A control group is frozen, and nothing in it runs."""

from rca.frozen import frozen_group
from rca.spec import CauseSpec, Check, Happened, Table

CAUSE = CauseSpec(
    id="group_frozen",
    title="frozen control group",
    mechanism="The freezer holds a control group (docker pause, a backup, a checkpoint): its processes keep their "
              "connections and locks, and none of them runs.",
    source="kernel docs admin-guide/cgroup-v2 (cgroup.freeze), cgroup-v1/freezer-subsystem",
    alerts=("GroupFrozen",),
    tables=(Table(
        label="cgroup",
        needs=((Happened(("group_frozen",)),),),
        supports=(Check("tcp_listen_overflows_per_second", ">=", 0.5, "mean", 3.0),
                  Check("tcp_syn_retransmits_per_second", ">=", 0.5, "mean", 3.0)),
    ),),
    headlines=("{entity} is frozen: nothing in it runs",),
    summary=(
        "{claim} {blame:ref}.",
        "Connections to a full accept queue are turned away meanwhile {tcp_listen_overflows_per_second:ref}.",
    ),
    tell_apart="freezer.state (v1) or cgroup.freeze (v2) of the group and of those above it",
    explains=("listen_overflow", "connect_failures", "connection_stalled", "packet_loss", "close_wait_leak",
              "file_lock_pile", "server_down"),
    hard=True,
    specific=3,
    blame=frozen_group,
    culprit_needed=False,
)
