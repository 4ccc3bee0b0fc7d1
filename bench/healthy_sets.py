"""The training parts of the public sets, whose labels nobody gave, through the engine as an ordinary host's series.

A metric of unknown meaning has no physics, so the hard rules and what only serves GPU jobs and inference servers are
left out. Each row is one frame at its own time, and one look of the slower detectors.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.detect_data import Dataset, Machine, load
from detectors.subsystems import FEATURES
from etio.core.alert import Alert
from etio.core.engine import Engine, Judge
from etio.core.event import FrameReady, Write
from etio.core.frame import NS, Floats, Frame
from etio.core.policy import SYMPTOMS
from etio.core.score import Band, Scores
from etio.core.series import Series, labels
from etio.core.tracks import Hit, Key, Tracks
from etio.daemon.config import Config
from etio.daemon.config import load as configuration

LEFT_OUT = frozenset({"hard_rules", "ranks", "serving", "serving_latency"})
START_NS = 1_735_689_600 * NS
NAMES = tuple(n for group in ("cpu", "memory", "disk", "network") for n in FEATURES[group] if n not in SYMPTOMS)
"""Names that put a metric into a subsystem, in turn; none of them pages by itself."""


@dataclass(frozen=True, slots=True)
class Host:
    """Counts over the training part of one machine: incidents of the engine; `series`: alerts there would be if every
    metric were a symptom, without any floor; HostAnomaly; other evidence."""

    days: float
    incidents: int
    series: int
    host_anomalies: int
    evidence: int


def judge(data: Path) -> dict[str, list[Host]]:
    """Every machine of every set. Raises FileNotFoundError where there is none."""
    config = configuration(None)
    return {one.name: [observe(m, one, config) for m in one.machines] for one in load(data)}


def figures(hosts: Sequence[Host]) -> dict[str, float | int]:
    """Rates per machine and day."""
    days = sum(one.days for one in hosts)

    def rate(total: int) -> float:
        return round(total / days, 4)

    return {"machines": len(hosts), "days": round(days, 2), "incidents": sum(one.incidents for one in hosts),
            "incidents_per_day": rate(sum(one.incidents for one in hosts)),
            "series_incidents_per_day": rate(sum(one.series for one in hosts)),
            "host_anomalies_per_day": rate(sum(one.host_anomalies for one in hosts)),
            "other_evidence_per_day": rate(sum(one.evidence for one in hosts))}


def observe(machine: Machine, dataset: Dataset, config: Config) -> Host:
    """One machine's training rows as frames."""
    series = named(machine.x.shape[1])
    engine, worst = _engine(config, dataset.period_s), _EverySeries(len(series))
    fired: list[Alert] = []
    for i in range(machine.train):
        frame = Frame(START_NS + int(i * dataset.period_s * NS), series, machine.x[i])
        fired += [a.item for a in engine.step(FrameReady(frame))
                  if isinstance(a, Write) and isinstance(a.item, Alert) and a.item.state == "firing"]
        worst.step(frame, engine.scores, engine.band)
    host = sum(a.name == "HostAnomaly" for a in fired)
    other = sum(a.severity == "info" for a in fired) - host
    incidents = {a.incident_id for a in fired if a.severity != "info"}
    return Host(machine.train * dataset.period_s / 86_400, len(incidents), worst.alerts, host, other)


def named(count: int) -> tuple[Series, ...]:
    """That many series of an ordinary host; the data is scaled to 0..1, so all are ratios.

    >>> [s.key for s in named(30)][:2], len({s.key for s in named(30)})
    (['cpu_busy_ratio', 'cpu_runnable_per_core'], 30)
    """
    return tuple(Series(NAMES[i % len(NAMES)], "ratio", labels=labels(device=f"d{i}") if i >= len(NAMES) else ())
                 for i in range(count))


def _engine(config: Config, period_s: float) -> Engine:
    """The default detectors, told the pace of the frames."""
    judges = []
    for name, (spec, settings) in config.detectors.items():
        if name not in LEFT_OUT:
            judges.append(Judge(spec.build(_paced(settings, period_s)), spec.scope))
    return Engine(replace(config.engine, for_s={"HostAnomaly": 0.0}), judges)


def _paced(settings: Any, period_s: float) -> Any:
    known = {"tick_s": period_s, "max_gap_s": 10 * period_s}
    if hasattr(settings, "every"):
        known["every"] = 1
    return replace(settings, **{k: v for k, v in known.items() if hasattr(settings, k)})


class _EverySeries:
    """What it would be like if every rise of every metric paged: an upper bound for symptoms, which have a floor."""

    def __init__(self, count: int) -> None:
        self._tracks = Tracks(frozenset(), {})
        self._keys: list[Key] = [("SeriesAnomaly", labels(series=str(i))) for i in range(count)]
        self.alerts = 0

    def step(self, frame: Frame, scores: Sequence[Scores], band: Band | None) -> None:
        """One frame that the engine has judged."""
        z = next(s for s in scores if s.detector == "robust_z").values
        high: Floats = band.high if band is not None else np.full(len(z), np.nan)
        hits = {key: Hit(bool(z[i] >= 1.0 and not frame.values[i] < high[i]), float(z[i]), float(frame.values[i]),
                         "ratio", "", "robust_z") for i, key in enumerate(self._keys)}
        self.alerts += sum(a.state == "firing" for a in self._tracks.frame(frame.t_ns, hits))
