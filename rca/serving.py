"""Inference servers in a case: their settings and processes, what their steps should take, who starves them.

The collector puts one fact for each server into Facts.extra ("inference NAME", JSON of kind, pid, comm, state, models,
flags); the latency model one for each server at work ("step time NAME", JSON of measured and expected). Both hold text
of other people's programs: read strictly, shown cleaned.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from etio.core.evidence import Evidence
from etio.core.report import Culprit
from rca.conditions import missing, series_evidence
from rca.culprits import CLEAR, TABLES, describe, fact
from rca.scene import Scene
from rca.spec import Blame, Outcome
from rca.units import clean, humanise

PAGE, MODEL, COMMAND = "metrics page of the server", "latency model of the server", "its command line"
FULL = 0.93
SLOWER = 1.15
"""Measured over expected from which a step is told as slow."""
WORK = ("inference_batch_size", "inference_prompt_tokens_per_second")
"""What makes a step longer by itself."""
WAITED = 0.05
"""Seconds a second that the processes of a server wait for a CPU: its launch thread must not wait at all."""
IDLE = 0.75
SHOWN = (
    "gpu_memory_utilization", "mem_fraction_static", "max_num_seqs", "max_running_requests", "max_num_batched_tokens",
    "max_model_len", "kv_cache_dtype", "tensor_parallel_size", "enforce_eager", "disable_cuda_graph", "parallel",
    "ctx_size", "gpu_layers", "threads", "num_parallel", "flash_attention", "max_loaded_models")
EAGER = {"enforce_eager": "--enforce-eager", "disable_cuda_graph": "--disable-cuda-graph"}
LIMITS = ("max_num_seqs", "max_running_requests", "parallel", "num_parallel")


@dataclass(frozen=True, slots=True)
class Server:
    """One server as its collector saw it; pid 0 where it runs elsewhere. starts: since it went down."""

    name: str
    kind: str
    pid: int
    state: str
    reason: str
    models: tuple[str, ...]
    flags: Mapping[str, str]
    starts: int = 0


def server(scene: Scene, name: str) -> Server | None:
    """The server of that name; None where nothing is known of it."""
    told = _told(scene, f"inference {name}")
    if told is None:
        return None
    flags, models, pid = told.get("flags"), told.get("models"), told.get("pid")
    return Server(
        name, str(told.get("kind", "")), pid if isinstance(pid, int) else 0, str(told.get("state", "")),
        str(told.get("reason", "")), tuple(map(str, models)) if isinstance(models, list) else (),
        {str(k): str(v) for k, v in flags.items()} if isinstance(flags, dict) else {},
        starts if isinstance(starts := told.get("starts"), int) else 0)


def _told(scene: Scene, key: str) -> dict[str, Any] | None:
    """The JSON object of one fact; None where it is not there or no object."""
    for name, value in scene.facts.extra:
        if name == key:
            try:
                found = json.loads(value)
            except ValueError:
                return None
            return found if isinstance(found, dict) else None
    return None


def serving_process(scene: Scene, entity: str) -> Blame:
    """The server itself, with the settings that matter as they are now."""
    one = server(scene, entity)
    if one is None or not one.pid:
        claim = f"The inference server {clean(entity, 60)}"
        culprit = Culprit("process", clean(entity, 60), claim=claim)
        return Blame(culprit, fact(claim, scene, math.nan, "", PAGE), "facts")
    settings = ", ".join(f"{k} {clean(v, 30)}" for k in SHOWN if (v := one.flags.get(k)))
    models = f" serves {clean(', '.join(one.models), 80)}" if one.models else ""
    claim = f"{clean(one.name, 60)} (pid {one.pid}){models}" + (f"; set: {settings}" if settings else "")
    known = scene.census.process(one.pid)
    cgroup, unit = (known.cgroup, known.unit) if known else ("", "")
    evidence = fact(claim, scene, math.nan, "", COMMAND, f"pid={one.pid}")
    return Blame(Culprit("process", clean(one.name, 60), one.pid, cgroup, unit, claim), evidence, "facts")


def slower(scene: Scene, entity: str) -> Outcome:
    """A step takes longer than this load explains."""
    told = _told(scene, f"step time {entity}") or {}
    ms, expected = (_number(told.get(k)) for k in ("ms", "expected_ms"))
    name = "step_model"
    if math.isnan(ms) or math.isnan(expected):
        return Outcome(None, missing("inference_step_seconds", scene), "latency model", name)
    low, high = (_number(told.get(k)) for k in ("low_ms", "high_ms"))
    span = "" if math.isnan(low) else f" ({low:.1f} to {high:.1f})"
    claim = (f"a step takes {ms:.1f} ms, this load explains {expected:.1f}{span} ms: {_number(told.get('batch')):.0f} "
             f"sequences, {_number(told.get('tokens')):,.0f} tokens in the KV cache")
    evidence = Evidence("", "fact", claim, f"server={entity}", "", (scene.case.onset_ns, scene.case.end_ns), ms / 1e3,
                        "seconds", expected / 1e3, source=MODEL)
    alarmed = any(a.name == "ServingSlow" and dict(a.labels).get("server") == entity
                  for a in scene.case.incident.alerts)
    holds = alarmed or ms > max(SLOWER * expected, high if high == high else 0.0)  # noqa: PLR0124 - NaN: no range
    return Outcome(holds, evidence, "latency model", name, "each step takes longer than this load explains")


def slower_step(scene: Scene, entity: str) -> Outcome:
    """A step takes longer than this load explains; where that is not known, longer than before."""
    by_model = slower(scene, entity)
    return by_model if by_model.holds is not None else _slower_than_before(scene, entity)


def _slower_than_before(scene: Scene, entity: str) -> Outcome:
    """Without a latency model: a step takes longer than before, and neither more sequences nor more prompts share it. A
    server that was idle or not there before has no step to compare with."""
    name, group = "step_before", "inference"
    fuller = any(one.now > SLOWER * one.baseline for work in WORK for one in scene.measures(work, "server", entity))
    known = [one for one in scene.measures("inference_step_seconds", "server", entity) if one.baseline > 0]
    if not known:
        return Outcome(None, missing("inference_step_seconds", scene), group, name)
    worst = max(known, key=lambda one: one.now / one.baseline)
    holds = worst.now >= SLOWER * worst.baseline and not fuller
    return Outcome(holds, series_evidence(worst, worst.now), group, name, "each step takes longer than before")


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan


def server_waits(scene: Scene, entity: str) -> Outcome:
    """The server's own processes wait for a CPU."""
    one, name = server(scene, entity), "server_run_delay"
    group = _group_of(scene, one.pid) if one and one.pid else None
    waited = group.total("run_delay") if group else math.nan
    if group is None or math.isnan(waited):
        return Outcome(None, missing("sched_run_delay_seconds_per_second", scene), "processes", name)
    claim = f"{describe(group)} waited for a CPU {humanise(waited, 'seconds/s')}"
    return Outcome(waited >= WAITED, fact(claim, scene, waited, "seconds/s", TABLES, f"pid={group.pid}"), "processes",
                   name)


def _group_of(scene: Scene, pid: int) -> Any:
    return next((g for g in scene.census.groups if any(m.process.pid == pid for m in g.members)), None)


def server_throttled(scene: Scene, entity: str) -> Outcome:
    """The control group of the server meets its CPU quota."""
    one, name = server(scene, entity), "cgroup_cpu_throttled_ratio"
    known = scene.census.process(one.pid) if one else None
    found = scene.measures(name, "cgroup", known.cgroup) if known and known.cgroup else []
    if not found:
        return Outcome(None, missing(name, scene), "cgroup", name)
    return Outcome(found[0].now >= 0.1, series_evidence(found[0], found[0].now), "cgroup", name)


def starver(scene: Scene, entity: str) -> Blame | None:
    """Who takes the CPU that the server waits for: the busiest that is not the server."""
    one = server(scene, entity)
    mine = _group_of(scene, one.pid) if one else None
    ranked = [g for g in scene.census.ranked("cpu_cores") if mine is None or g.pid != mine.pid]
    if not ranked or ranked[0].total("cpu_cores") < 0.1:
        return None
    top, used = ranked[0], ranked[0].total("cpu_cores")
    claim = f"{describe(top)} used {humanise(used, 'cores')} beside it"
    culprit = Culprit("process", clean(top.name, 60), top.pid, top.cgroup, top.unit, claim)
    second = ranked[1].total("cpu_cores") if len(ranked) > 1 else 0.0
    evidence = fact(claim, scene, used, "cores", TABLES, f"pid={top.pid}")
    return Blame(culprit, evidence, "processes", used >= CLEAR * second)


def gpus_idle(scene: Scene, _entity: str) -> Outcome:
    """Even the busiest GPU of the host has time left."""
    found = [m for m in scene.measures("gpu_utilization_ratio") if not math.isnan(m.now)]
    if not found:
        return Outcome(None, missing("gpu_utilization_ratio", scene), "nvml", "gpu_utilization_ratio")
    top = max(found, key=lambda m: m.now)
    return Outcome(top.now <= IDLE, series_evidence(top, top.now), "nvml", "gpu_utilization_ratio")


def eager(scene: Scene, entity: str) -> Outcome:
    """The server launches every kernel by itself: CUDA graphs are switched off."""
    one = server(scene, entity)
    flag = next((k for k in EAGER if one and one.flags.get(k) == "on"), "") if one else ""
    if one is None or not one.pid:
        return Outcome(None, missing("inference_step_seconds", scene), "facts", "eager")
    claim = f"{clean(one.name, 60)} runs with {EAGER[flag]}" if flag else f"{clean(one.name, 60)} uses CUDA graphs"
    return Outcome(bool(flag), fact(claim, scene, math.nan, "", COMMAND, f"pid={one.pid}"), "facts", "eager")


def at_limit(scene: Scene, entity: str) -> Outcome:
    """It serves as many requests at once as it is allowed to."""
    one = server(scene, entity)
    limit = next((_limit(one.flags[k]) for k in LIMITS if k in one.flags), math.nan) if one else math.nan
    running = scene.measures("inference_running_requests", "server", entity)
    if math.isnan(limit) or not running:
        return Outcome(None, missing("inference_running_requests", scene), "facts", "serving_limit")
    most = max(m.now for m in running)
    claim = f"limit of {clean(entity, 60)}: it serves {most:.0f} requests at once and may serve {limit:.0f}"
    return Outcome(most >= 0.9 * limit, fact(claim, scene, limit, "1", COMMAND, f"server={entity}"), "facts",
                   "serving_limit")


def _limit(text: str) -> float:
    return float(text) if text.isascii() and text.isdigit() else math.nan


def process_gone(scene: Scene, entity: str) -> Outcome:
    """The process of the server is not there any more."""
    one, last = server(scene, entity), scene.census.last
    if one is None or not one.pid or last is None:
        return Outcome(None, missing("inference_server_up", scene), "processes", "server_gone")
    alive = any(p.pid == one.pid and p.state not in ("Z", "X") for p in last.processes)
    claim = f"process {one.pid} of {clean(one.name, 60)} is {'still there' if alive else 'gone'}"
    return Outcome(not alive, fact(claim, scene, math.nan, "", TABLES, f"pid={one.pid}"), "processes", "server_gone")
