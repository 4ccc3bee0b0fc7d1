"""Processes whose memory lies on another NUMA node than the one they run on.

The collector of placements puts one fact for each big process into Facts.extra: ("numa pid=N comm=X", "runs: 0=0.02
1=0.98; memory: 0=8000000000 1=5000000; cgroup: C; source: S").
"""

import math
import re
from dataclasses import dataclass

from etio.core.evidence import Evidence
from etio.core.report import Culprit
from rca.culprits import fact
from rca.scene import Scene
from rca.spec import Blame, Outcome, Shown
from rca.units import clean, humanise

HOME = 0.8
"""Part of the CPU time of a process that makes a node its home."""
AWAY, LEAST_BYTES = 0.5, 256 * 2.0**20
"""Part of its memory that must lie elsewhere to matter, and how much."""
SOURCE = "/proc/PID/numa_maps"
_KEY = re.compile(r"numa pid=(\d{1,10}) comm=(.*)", re.DOTALL)
_PAIR = re.compile(r"(\d{1,4})=(\d{1,18}(?:\.\d{1,4})?)")


@dataclass(frozen=True, slots=True)
class Placed:
    """One process: where it runs (parts of its CPU time) and where its memory lies (bytes), by node."""

    pid: int
    comm: str
    cgroup: str
    runs: dict[int, float]
    memory: dict[int, float]
    source: str

    @property
    def home(self) -> int:
        """The node that it runs on, -1 where it runs on several."""
        node = max(self.runs, key=self.runs.__getitem__, default=-1)
        return node if self.runs.get(node, 0.0) >= HOME else -1

    @property
    def away_bytes(self) -> float:
        """Memory on other nodes than its home; 0 where it has none."""
        return sum(size for node, size in self.memory.items() if node != self.home) if self.home >= 0 else 0.0

    @property
    def away(self) -> bool:
        """Whether most of its memory, and a good deal, lies elsewhere."""
        return self.away_bytes >= max(LEAST_BYTES, AWAY * sum(self.memory.values()))


def placed(scene: Scene) -> list[Placed]:
    """The processes that the facts tell of, those with most memory elsewhere first."""
    found = []
    for key, value in scene.facts.extra:
        if known := _KEY.fullmatch(key):
            words = dict(part.split(": ", 1) for part in value.split("; ") if ": " in part)
            found.append(Placed(int(known[1]), known[2], words.get("cgroup", ""), _nodes(words.get("runs", "")),
                                _nodes(words.get("memory", "")), words.get("source", "numa_maps")))
    return sorted(found, key=lambda p: -p.away_bytes)


def _nodes(text: str) -> dict[int, float]:
    return {int(node): float(amount) for node, amount in _PAIR.findall(text)}


def _look(scene: Scene, _entity: str) -> Outcome:
    known = placed(scene)
    if not known:
        none = Evidence("", "missing", "where the memory of the processes lies: not looked at", coverage=0.0,
                        source=SOURCE)
        return Outcome(None, none, "placement", "placement")
    worst = known[0]
    if not worst.away:
        told = Evidence("", "fact", f"the memory of {len(known)} big processes lies where they run", source=SOURCE)
        return Outcome(False, told, "placement", "placement")
    return Outcome(True, _fact(scene, worst), "placement", "placement")


away_from_memory = Shown(_look)
"""A condition: a big process runs on one node, and most of its memory lies on others; its name is placement."""


def _fact(scene: Scene, one: Placed) -> Evidence:
    total = sum(one.memory.values())
    share = one.away_bytes / total if total else math.nan
    claim = (f"{clean(one.comm, 40)} (pid {one.pid}) runs on node {one.home}, but {humanise(one.away_bytes, 'bytes')} "
             f"of its {humanise(total, 'bytes')} lie on other nodes")
    return fact(claim, scene, share, "ratio", f"/proc/PID/{one.source}" if "/" not in one.source else one.source,
                f"pid={one.pid}")


def blame_runaway(scene: Scene, _entity: str) -> Blame | None:
    """The process with most memory on other nodes."""
    known = [p for p in placed(scene) if p.away]
    if not known:
        return None
    top = known[0]
    seen = scene.census.process(top.pid)
    evidence = _fact(scene, top)
    culprit = Culprit("process", clean(top.comm, 60), top.pid, seen.cgroup if seen else top.cgroup,
                      seen.unit if seen else "", evidence.claim)
    clear = len(known) == 1 or top.away_bytes >= 1.5 * known[1].away_bytes
    return Blame(culprit, evidence, "placement", clear)
