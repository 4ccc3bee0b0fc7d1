"""A control group meets its own CPU quota."""

from rca.conditions import missing, series_evidence
from rca.culprits import throttled_group
from rca.scene import Scene
from rca.spec import CauseSpec, Check, Outcome, Shown, Table


def _at_quota(scene: Scene, entity: str) -> Outcome:
    """Its use of CPU is at its quota (within 20 %): it would take more."""
    quota = scene.value("cgroup_cpu_quota_cores", "cgroup", entity)
    used = scene.measures("cgroup_cpu_usage_cores", "cgroup", entity)
    if not used or quota != quota:  # noqa: PLR0124 - NaN: no quota known
        return Outcome(None, missing("cgroup_cpu_usage_cores", scene), "cgroup usage", "cgroup_cpu_usage_cores")
    evidence = series_evidence(used[0], used[0].now)
    return Outcome(used[0].now >= 0.8 * quota, evidence, "cgroup usage", "cgroup_cpu_usage_cores")


CAUSE = CauseSpec(
    id="cgroup_cpu_throttling",
    title="CPU quota of a control group",
    mechanism="A control group uses up its CPU quota early in each period and is stopped until the next one begins.",
    source="kernel docs admin-guide/cgroup-v2 (cpu.stat, cpu.max) and scheduler/sched-bwc",
    alerts=("CgroupCpuThrottled",),
    tables=(Table(
        label="cgroup",
        needs=((Check("cgroup_cpu_throttled_ratio", ">=", 0.20),),),
        supports=(
            Shown(_at_quota),
            Check("cgroup_cpu_throttled_seconds_per_second", ">=", 0.05),
            Check("pressure_cpu_some_ratio", ">=", 0.10, factor=1.5),
            Check("cpu_busy_ratio", "<=", 0.90),
        ),
    ),),
    headlines=("{who} is throttled by its own CPU quota", "{entity} is throttled by its own CPU quota"),
    summary=(
        "{claim} {blame:ref}.",
        "The kernel stopped it in {cgroup_cpu_throttled_ratio} of the scheduling periods "
        "{cgroup_cpu_throttled_ratio:ref}.",
        "It used {cgroup_cpu_usage_cores} {cgroup_cpu_usage_cores:ref}: all it may have.",
        "The host as a whole used {cpu_busy_ratio} of its CPU time {cpu_busy_ratio:ref}, so it is the quota that holds "
        "it back and not a lack of CPUs.",
    ),
    tell_apart="nr_throttled and nr_periods in the cpu.stat file of the group show whether its quota holds it back",
    explains=("slow_rank", "listen_overflow"),
    specific=2,
    blame=throttled_group,
    culprit_needed=False,
)
