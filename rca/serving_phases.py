"""Where the time of a request goes at an inference server, and which of its limits holds it back."""

import math
from dataclasses import replace

from etio.core.evidence import Evidence
from rca.conditions import missing, series_evidence
from rca.culprits import TABLES, describe, fact
from rca.gpus import NVML, holders
from rca.scene import Scene
from rca.serving import PAGE, at_limit, server
from rca.spec import Outcome, Shown
from rca.units import clean, humanise

PHASES = {"queue": "waiting for its turn", "prefill": "its prompt", "decode": "its answer"}
FRONT = ("vllm", "sglang")
"""Kinds whose first process speaks HTTP and makes tokens of text, in Python, beside the engine."""
CORE = 0.9
"""Cores from which one thread of Python has no more to give."""
BUSY = 0.9
SLOWER_TOKENS = 1.3
"""Time of a token over that before from which the server is slower and not only asked for more."""
HELD = 256 * 2.0**20
"""Bytes of GPU memory from which somebody else matters."""
ROOM = 0.7
"""Of the KV cache in use, up to which more requests fit."""


def _now(scene: Scene, name: str, entity: str) -> float:
    """The largest value over the models of a server; NaN where there is none."""
    return max((m.now for m in scene.measures(name, "server", entity) if not math.isnan(m.now)), default=math.nan)


def mostly(phase: str) -> Shown:
    """A condition: requests that ended lately spent at least half of their time in this phase."""

    def look(scene: Scene, entity: str) -> Outcome:
        """Unknown where the server does not tell the phases."""
        took = {one: _now(scene, f"inference_request_{one}_seconds", entity) for one in PHASES}
        if math.isnan(took[phase]):
            return Outcome(None, missing(f"inference_request_{phase}_seconds", scene), "inference", "phases")
        known = {one: seconds for one, seconds in took.items() if not math.isnan(seconds)}
        parts = ", ".join(f"{humanise(seconds, 'seconds')} for {PHASES[one]}" for one, seconds in known.items())
        evidence = Evidence("", "fact", f"time of a request at {clean(entity, 60)}: {parts}", f"server={entity}", "",
                            (scene.case.onset_ns, scene.case.end_ns), took[phase], "seconds", source=PAGE)
        return Outcome(took[phase] * 2 >= sum(known.values()) > 0, evidence, "inference", "phases")

    return Shown(look, tuple(f"inference_request_{one}_seconds" for one in PHASES))


def tokens_slower(scene: Scene, entity: str) -> Outcome:
    """Each token of an answer takes longer than before: decode time over length, as percentiles between tokens are no
    finer than the bounds of their buckets."""
    took, length = (scene.measures(f"inference_request_{one}", "server", entity) for one in (
        "decode_seconds", "output_tokens"))
    if not took or not length or not (took[0].baseline > 0 and length[0].baseline > 1 and length[0].now > 1):
        return Outcome(None, missing("inference_request_decode_seconds", scene), "inference", "tokens")
    now, before = took[0].now / (length[0].now - 1), took[0].baseline / (length[0].baseline - 1)
    claim = f"a token of an answer takes {humanise(now, 'seconds')}, {humanise(before, 'seconds')} before"
    evidence = replace(fact(claim, scene, now, "seconds", PAGE, f"server={entity}"), baseline=before)
    return Outcome(now >= SLOWER_TOKENS * before, evidence, "inference", "tokens", "each token takes longer as well")


def limited(scene: Scene, entity: str) -> Outcome:
    """It serves as many requests at once as it may, while its KV cache has room for more."""
    found, used = at_limit(scene, entity), _now(scene, "inference_kv_cache_used_ratio", entity)
    if found.holds is None or math.isnan(used):
        return replace(found, holds=None)
    return replace(found, holds=found.holds and used <= ROOM, why="its own limit holds it back")


def front_busy(scene: Scene, entity: str) -> Outcome:
    """The process that speaks HTTP and makes tokens of text uses a core up."""
    one, name = server(scene, entity), "front"
    group = next((g for g in scene.census.groups if one and any(m.process.pid == one.pid for m in g.members)), None)
    member = next((m for m in group.members if one and m.process.pid == one.pid), None) if group else None
    if one is None or one.kind not in FRONT or group is None or member is None or math.isnan(member.cpu_cores):
        return Outcome(None, missing("cpu_busy_ratio", scene), "processes", name)
    claim = f"first process of {clean(one.name, 60)} (pid {one.pid}): {humanise(member.cpu_cores, 'cores')}"
    return Outcome(member.cpu_cores >= CORE, fact(claim, scene, member.cpu_cores, "cores", TABLES, f"pid={one.pid}"),
                   "processes", name, describe(group))


def memory_held(scene: Scene, entity: str) -> Outcome:
    """Somebody else holds GPU memory, and most of it is taken."""
    one = server(scene, entity)
    own = {one.pid} if one else set()
    group = next((g for g in scene.census.groups if any(m.process.pid in own for m in g.members)), None)
    own |= {m.process.pid for m in group.members} if group else set()
    others = [h for h in holders(scene) if h.pid not in own and h.memory_bytes >= HELD]
    if not others:
        return Outcome(None, missing("gpu_memory_used_ratio", scene), "nvml processes", "held")
    told = ", ".join(f"{clean(h.comm, 40) or 'a process'} (pid {h.pid}) holds {humanise(h.memory_bytes, 'bytes')} "
                     f"of GPU {clean(h.gpu, 10)}" for h in others[:3])
    return Outcome(True, fact(f"beside it: {told}", scene, math.nan, "", NVML), "nvml processes", "held")


def gpus_busy(scene: Scene, _entity: str) -> Outcome:
    """Some GPU of the host has no time left."""
    found = [m for m in scene.measures("gpu_utilization_ratio") if not math.isnan(m.now)]
    if not found:
        return Outcome(None, missing("gpu_utilization_ratio", scene), "nvml", "gpu_busy")
    top = max(found, key=lambda m: m.now)
    return Outcome(top.now >= BUSY, series_evidence(top, top.now), "nvml", "gpu_busy", "a GPU is busy all the time")


def started_again(least: int) -> Shown:
    """A condition: the server was started so many times since it went down, and has not answered."""

    def look(scene: Scene, entity: str) -> Outcome:
        """Never unknown."""
        one = server(scene, entity)
        starts = one.starts if one else 0
        claim = (f"starts of {clean(entity, 60)} since it went down: {starts}, none of which has answered"
                 if starts else f"{clean(entity, 60)} was not started again")
        return Outcome(starts >= least, fact(claim, scene, float(starts), "1", TABLES, f"server={entity}"), "facts",
                       "starts", "it is started again and again")

    return Shown(look)
