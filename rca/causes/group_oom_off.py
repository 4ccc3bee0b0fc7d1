"""A control group is out of memory, and its OOM killer is switched off."""

from rca.memory_culprits import memory_holder
from rca.spec import CauseSpec, Check, Table

CAUSE = CauseSpec(
    id="group_oom_off",
    title="group out of memory, OOM killer off",
    mechanism="A control group has all the memory it may and its OOM killer is off (oom_kill_disable): whoever in it "
              "wants more sleeps in the kernel until somebody frees some or raises the limit.",
    source="kernel docs admin-guide/cgroup-v1/memory, 10. OOM Control",
    alerts=("CgroupOutOfMemory", "CgroupMemoryPressure", "TasksStuck", "HungTask"),
    tables=(Table(
        label="cgroup",
        needs=((Check("cgroup_memory_oom_waiting", ">=", 0.5, "last"),),),
        supports=(Check("cgroup_memory_used_ratio", ">=", 0.95), Check("task_stuck_seconds_max", ">=", 3.0, "peak"),
                  Check("task_uninterruptible", ">=", 1.0)),
    ),),
    headlines=("{entity} is out of memory and its OOM killer is off: its processes wait",),
    summary=(
        "Processes of {entity} want memory, the group uses {cgroup_memory_used_ratio} of its limit "
        "{cgroup_memory_used_ratio:ref}, and its OOM killer, which would end one of them, is off "
        "{cgroup_memory_oom_waiting:ref}.",
        "{claim} {blame:ref}.",
        "The longest that a task has hung is {task_stuck_seconds_max} {task_stuck_seconds_max:ref}; it goes on when "
        "memory of the group is freed, its limit raised or its OOM killer switched on.",
    ),
    tell_apart="under_oom and oom_kill_disable in memory.oom_control of the group (v1)",
    explains=("memory_pressure", "io_stall", "connection_stalled", "listen_overflow", "file_lock_pile", "server_down"),
    hard=True,
    specific=3,
    blame=memory_holder,
    culprit_needed=False,
)
