"""A parent does not collect its dead children."""

from rca.exhausted import zombie_parent
from rca.spec import CauseSpec, Check, Happened, Table

CAUSE = CauseSpec(
    id="zombies",
    title="zombies pile up",
    mechanism="A process starts children and never waits for them; each dead one keeps its process id.",
    source="wait(2): zombies hold a slot of the process table",
    alerts=("ZombiesPileUp", "PidsExhausted"),
    tables=(Table(
        label="pid",
        needs=((Happened(("zombies_pile_up",)),),),
        supports=(Check("task_zombies", ">=", 50.0, factor=2.0),
                  Check("task_zombies_of_one_parent_max", ">=", 50.0, factor=2.0),
                  Check("kernel_pids_used_ratio", ">=", 0.5, factor=1.5)),
    ),),
    headlines=("{who} does not collect its dead children",),
    summary=(
        "{claim} {blame:ref}.",
        "The host has {task_zombies} zombies {task_zombies:ref}. They use no memory but a process id each: in the end "
        "nothing can be started any more.",
    ),
    tell_apart="ps -eo ppid,stat | grep Z: all dead children have the same parent",
    explains=("pids_exhausted",),
    hard=True,
    specific=3,
    blame=zombie_parent,
    culprit_needed=False,
)
