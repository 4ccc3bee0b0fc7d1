"""Tasks hand the CPU to each other all the time and get little done."""

from rca.conditions import missing, series_evidence
from rca.culprits import cpu_hog
from rca.scene import Scene
from rca.spec import CauseSpec, Check, Outcome, Shown, Table

NAME = "cpu_context_switches_per_second"
PER_CORE = 30_000.0
"""Switches a second and core: at 2 to 5 microseconds each, with the caches that go cold, a good part of its time."""


def _switches(scene: Scene, _entity: str) -> Outcome:
    """Many switches for the number of cores, and many more than usual."""
    found = scene.measures(NAME)
    if not found or not scene.cpus:
        return Outcome(None, missing(NAME, scene), "stat", NAME)
    one = found[0]
    enough = one.now >= PER_CORE * scene.cpus and not one.now < 5.0 * one.baseline
    return Outcome(enough, series_evidence(one, one.now), "context switches", NAME, deviation=one.deviation)


CAUSE = CauseSpec(
    id="context_switch_storm",
    title="storm of context switches",
    mechanism="Tasks wake each other or fight for a lock so often that the cores mostly switch between them.",
    source="proc_stat(5): ctxt; Gregg, Systems Performance, 6.2.8 and 6.3.9 (context switches, contention)",
    alerts=("CpuSaturated", "CpuFull", "RunQueueLong"),
    tables=(Table(
        needs=(
            (Check("cpu_busy_ratio", ">=", 0.90),),
            (Shown(_switches),),
            (Check("cpu_mode_ratio", ">=", 0.40, labels=(("mode", "system"),)),),
        ),
        supports=(Check(NAME, ">=", PER_CORE, factor=5.0), Check("pressure_cpu_some_ratio", ">=", 0.10, factor=1.5),
                  Check("sched_switches_per_second", ">=", 30_000.0, factor=5.0)),
        refutes=(Check("process_forks_per_second", ">=", 300.0, why="the switches come from processes that start"),),
    ),),
    headlines=("{who} makes {all_cpus} switch tasks {cpu_context_switches_per_second:times}",
               "The cores switch tasks {cpu_context_switches_per_second:times}"),
    summary=(
        "Tasks take turns {cpu_context_switches_per_second:times} {cpu_context_switches_per_second:seen}.",
        "{cpu_mode_ratio} of the CPU time is spent in the kernel {cpu_mode_ratio:ref}, not in the programs.",
        "{claim} {blame:ref}.",
        "That is what threads do that wake each other for each message, or that fight for the same lock.",
    ),
    tell_apart="pidstat -w (switches by process), and perf lock or perf trace -s on the busiest: futex and pipe calls",
    explains=("cpu_saturation", "runqueue_contention"),
    specific=2,
    blame=cpu_hog,
)
