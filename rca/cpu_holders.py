"""A few tasks that have the cores, or a crowd that shares them: what tells CPU saturation from a long run queue."""

import math

from rca.conditions import missing, series_evidence
from rca.culprits import TABLES, by_usage, cpu_hog, describe, fact
from rca.scene import Scene
from rca.spec import Blame, Outcome
from rca.units import humanise

CROWD = 6.0
"""Runnable tasks per core; below it a host is merely full."""
MOST = 0.5
"""Share of the cores that a few tasks must have, so that the others only wait for them."""
FEW = 2
"""Tasks per core that are a few."""
FORK_S = 0.002
"""CPU time of the kernel to make and bury a process, its exec and page faults included, on a slow host."""
STORM = 400.0
"""New processes a second that are a storm whatever they cost: the threshold of the alert ForkStorm."""
IN_TURN = 0.4
"""Part of the programs that are the same as the one before, below which it is no loop that starts them."""
FORKS = ("process_forks_per_second", "cpu_forks_per_second")
RUNNABLE = "cpu_runnable_per_core"
waiter = by_usage("run_delay", "waited for a CPU {}", "seconds/s", floor=0.05)


def few_have_the_cores(scene: Scene, _entity: str) -> Outcome:
    """Whether one small family of processes has most of the cores; in a fair crowd none could."""
    ranked = scene.census.ranked("cpu_cores")
    if not ranked or not scene.cpus:
        return Outcome(None, missing("process tables", scene), "processes", "few_have_the_cores")
    top, used = ranked[0], ranked[0].total("cpu_cores")
    few = max(top.threads, len(top.members)) <= FEW * scene.cpus
    claim = f"{describe(top)} had {humanise(used, 'cores')} of the {scene.cpus}"
    evidence = fact(claim, scene, used, "cores", TABLES, f"pid={top.pid}")
    return Outcome(few and used >= MOST * scene.cpus, evidence, "processes", "few_have_the_cores",
                   "the others wait for a few tasks that have the cores")


def crowded(scene: Scene, entity: str) -> Outcome:
    """Whether many runnable tasks share each core, and none of them has it for itself."""
    found = scene.measures(RUNNABLE)
    if not found:
        return Outcome(None, missing(RUNNABLE, scene), "stat", RUNNABLE)
    crowd = found[0].now >= CROWD and not few_have_the_cores(scene, entity).holds
    return Outcome(crowd, series_evidence(found[0], found[0].now), "stat", RUNNABLE,
                   "not few hungry tasks: many runnable tasks share each core", found[0].deviation)


def runnable_crowd(scene: Scene, entity: str) -> Blame | None:
    """Who fills the run queue: most waiting, where it also gets its part of the cores; else who takes them."""
    waits, holds = waiter(scene, entity), cpu_hog(scene, entity)
    if waits is None or holds is None or waits.culprit.pid == holds.culprit.pid:
        return waits or holds
    cores = {g.pid: g.total("cpu_cores") for g in scene.census.ranked("cpu_cores")}
    starved = cores[holds.culprit.pid] >= 2.0 * cores.get(waits.culprit.pid, 0.0)
    return holds if starved else waits


def beyond_forks(scene: Scene, _entity: str) -> Outcome:
    """Whether the kernel is far busier than so many new processes can make it: then something else is going on, and
    that a build or a package manager starts some hundred processes a second is beside the point."""
    forks = max((v for name in FORKS if (v := scene.value(name)) == v), default=math.nan)
    found = scene.measures("cpu_mode_ratio", fixed=(("mode", "system"),))
    if not found or math.isnan(forks) or not scene.cpus:
        return Outcome(None, missing("cpu_mode_ratio", scene), "stat", "beyond_forks")
    cores = found[0].now * scene.cpus
    holds = forks < STORM and found[0].now >= 0.4 and cores >= 2.0 * forks * FORK_S
    return Outcome(holds, series_evidence(found[0], found[0].now), "stat", "beyond_forks",
                   "so few new processes cannot keep the kernel that busy")


def several_programs(scene: Scene, _entity: str) -> Outcome:
    """Whether what is started are several programs in turn, as an installation or a long script does it: no loop."""
    forks, execs = scene.value("process_forks_per_second"), scene.value("process_execs_per_second")
    found = scene.measures("process_exec_repeats_per_second")
    if not found or math.isnan(found[0].now) or not execs > 0:
        return Outcome(None, missing("process_exec_repeats_per_second", scene), "ebpf process", "several_programs")
    holds = found[0].now < IN_TURN * execs and execs >= IN_TURN * forks
    return Outcome(holds, series_evidence(found[0], found[0].now), "ebpf process", "several_programs",
                   "several programs are started in turn, each for its piece of work")


def work_beyond_forks(scene: Scene, _entity: str) -> Outcome:
    """Whether the new processes compute more than it takes to make and bury them: a build, no storm."""
    forks = max((v for name in FORKS if (v := scene.value(name)) == v), default=math.nan)
    user = scene.measures("cpu_mode_ratio", fixed=(("mode", "user"),))
    system = scene.value("cpu_mode_ratio", fixed=(("mode", "system"),))
    if not user or math.isnan(forks) or math.isnan(system):
        return Outcome(None, missing("cpu_mode_ratio", scene), "stat", "work_beyond_forks")
    holds = forks < STORM and user[0].now >= max(system, 0.3)
    return Outcome(holds, series_evidence(user[0], user[0].now), "stat", "work_beyond_forks",
                   "what is started works longer than it takes to start it")
