"""Which sibling does not behave like the others: one GPU, disk or NUMA node against its peers, at the same moment.

Only for series where siblings are expected to agree, and only among those that do comparable work (the family's
gate): a busy disk beside idle ones is ordinary. The deviation is the log ratio to the median (or the plain
difference) on the family's bad side, averaged over about `scale` looks; its score is the lesser of deviation over
the family's effect floor and deviation over `spreads` robust spreads of the peers. At least three siblings must take
part; with fewer, or before `warmup` looks, the score is NaN.

Memory: 32 bytes per sibling.

References
----------
Gunawi et al. (2018). Fail-slow at scale. FAST'18. https://www.usenix.org/conference/fast18/presentation/gunawi
Rousseeuw, P. J., Croux, C. (1993). Alternatives to the median absolute deviation. JASA 88(424), 1273-1283.
    https://doi.org/10.1080/01621459.1993.10476408 (median and MAD as location and scale).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from detectors.columns import Columns, Ints, Memory, part
from detectors.keeping import Keeping
from etio.core.errors import Broken
from etio.core.frame import Floats, Frame
from etio.core.ports import DetectorSpec
from etio.core.score import Scores
from etio.core.series import Series

MAD_TO_SIGMA = 1.4826
LEAST_PEERS = 3


@dataclass(frozen=True, slots=True)
class Family:
    """Siblings that should agree.

    label: what tells them apart. how: "ratio" compares logs, "difference" plain values. side: +1 where more is bad,
    -1 where less is. effect: smallest deviation that matters (natural log, or the unit of the series). spread: floor
    of the peers' spread. gate, least: a sibling takes part while that series of the same labels is at least this;
    alike: and within this factor of the median of the gate.
    """

    series: str
    label: str
    how: Literal["ratio", "difference"]
    side: int
    effect: float
    spread: float
    gate: str
    least: float
    alike: float = np.inf


BUSY, LOADED = "gpu_utilization_ratio", "gpu_memory_used_ratio"
FAMILIES = (
    Family("gpu_sm_clock_hertz", "gpu", "ratio", -1, 0.15, 0.03, BUSY, 0.5),
    Family("gpu_temperature_celsius", "gpu", "difference", +1, 15.0, 3.0, BUSY, 0.5),
    Family("gpu_utilization_ratio", "gpu", "difference", -1, 0.4, 0.08, LOADED, 0.2, alike=2.0),
    Family("gpu_pcie_link_width", "gpu", "ratio", -1, 0.5, 0.05, BUSY, 0.5),
    Family("disk_read_latency_seconds", "device", "ratio", +1, 1.1, 0.25, "disk_reads_per_second", 10.0, alike=2.0),
    Family("disk_write_latency_seconds", "device", "ratio", +1, 1.1, 0.25, "disk_writes_per_second", 10.0, alike=2.0),
    Family("numa_memory_used_ratio", "node", "difference", +1, 0.5, 0.1, "numa_hit_per_second", 1.0),
)
"""Disks: only those of one kind (sd, nvme, vd) under the same rate of requests, as members of one array are."""
NOT_A_DISK = ("dm-", "fd", "loop", "md", "sr", "zram")
"""Devices that stand on others, whose latency says more of those: no siblings."""


@dataclass(frozen=True, slots=True)
class Config:
    """every: ticks from one look to the next; between them the last scores are told again. scale: looks averaged
    over; warmup: looks before the first score; spreads: of the peers, for an alarm."""

    every: int = 4
    scale: float = 5.0
    warmup: int = 8
    spreads: float = 4.0

    def __post_init__(self) -> None:
        if self.every < 1 or self.scale < 1 or self.warmup < 1 or self.spreads <= 0:
            raise ValueError("every, scale and warmup must be >= 1, spreads positive")


@dataclass(slots=True)
class _Group:
    """Members of one family that are peers: positions in the frame, of their gates, and among the outputs."""

    family: Family
    at: Ints
    gate: Ints
    out: Ints


class Peers(Keeping):
    """Scores each sibling: series ``peer_deviation{gpu="3",series="gpu_sm_clock_hertz"}``.

    >>> from etio.core.series import labels
    >>> names = ("gpu_sm_clock_hertz", "gpu_utilization_ratio")
    >>> series = tuple(Series(n, "x", labels=labels(gpu=str(g))) for n in names for g in range(4))
    >>> detector = Peers(Config())
    >>> for i in range(1, 60):
    ...     values = np.array([1.9e9, 1.9e9, 1.9e9, 1.2e9, 0.9, 0.9, 0.9, 0.9])
    ...     scores = detector.step(Frame(i * 10**9, series, values))
    >>> [s.entity for s, v in zip(scores.series, scores.values) if v >= 1]
    ['gpu=3,series=gpu_sm_clock_hertz']
    """

    name = "peers"

    def __init__(self, config: Config) -> None:
        self._config = config
        self._reset()

    def _reset(self) -> None:
        self._known = self._t_ns = self._ticks = 0
        self._places: dict[tuple[str, str], int] = {}
        self._members: dict[tuple[Family, str], list[Series]] = {}
        self._outputs: dict[Series, int] = {}
        self._groups: list[_Group] = []
        self._series: tuple[Series, ...] = ()
        self._columns = Columns(count=np.zeros(1), away=np.zeros(1), spread=np.zeros(1), score=np.full(1, np.nan))
        self._memory = Memory()

    def step(self, frame: Frame) -> Scores:
        """float64[siblings]; NaN for those that do not take part now. A tick not after the last changes nothing."""
        self._grow(frame.series)
        if frame.t_ns > self._t_ns or not self._t_ns:
            self._ticks += 1
            if self._ticks % self._config.every == 0:
                for group in self._groups:
                    self._columns["score"][group.out] = self._judge(group, frame.values)
        self._t_ns = frame.t_ns
        return Scores(self.name, self._series, self._columns["score"].copy())

    def _judge(self, group: _Group, values: Floats) -> Floats:
        family, out = group.family, group.out
        x, gate = values[group.at], values[group.gate]
        part_of = np.isfinite(x) & (gate >= family.least) & ((x > 0) | (family.how == "difference"))
        if part_of.sum() >= LEAST_PEERS and np.isfinite(family.alike):
            middle = _median(gate[part_of])
            part_of &= (gate <= middle * family.alike) & (gate >= middle / family.alike)
        if part_of.sum() < LEAST_PEERS:
            return np.full(len(out), np.nan)
        away, spread = _deviation(x[part_of], family)
        count, mean, wide = (self._columns[name] for name in ("count", "away", "spread"))
        mine = out[part_of]
        rate = np.maximum(1.0 / (count[mine] + 1.0), 1.0 / self._config.scale)
        mean[mine] += rate * (np.clip(away, -3 * family.effect, 3 * family.effect) - mean[mine])
        wide[mine] += rate * (spread - wide[mine])
        count[mine] += 1.0
        limit = np.maximum(family.effect, self._config.spreads * wide[mine])
        scores = np.full(len(out), np.nan)
        scores[part_of] = np.where(count[mine] >= self._config.warmup, np.maximum(mean[mine], 0.0) / limit, np.nan)
        return scores

    def _grow(self, series: tuple[Series, ...]) -> None:
        fresh = [(i, s) for i, s in enumerate(series[self._known:], self._known) if s.name in _NAMES]
        self._known = max(self._known, len(series))
        if not fresh:
            return
        known = len(self._outputs)
        for i, one in fresh:
            self._places[one.name, _thing(one)] = i
            for family in FAMILIES:
                if family.series == one.name and _is_sibling(one.label(family.label)):
                    self._members.setdefault((family, _sort(one, family)), []).append(one)
                    self._outputs.setdefault(_output(one), len(self._outputs))
        self._series = tuple(self._outputs)
        self._columns.grow(len(self._outputs))
        self._memory.adopt(self._series, known)
        self._groups = [g for (family, _), members in self._members.items() if (g := self._group(family, members))]

    def _group(self, family: Family, members: list[Series]) -> _Group | None:
        found = [(m, self._places.get((family.gate, _thing(m)))) for m in members]
        rows = [(self._places[m.name, _thing(m)], gate, self._outputs[_output(m)]) for m, gate in found
                if gate is not None]
        if len(rows) < LEAST_PEERS:
            return None
        at, gate, out = np.array(rows, dtype=np.intp).T
        return _Group(family, at, gate, out)

    def snapshot(self) -> Mapping[str, Any]:
        """Averages of each sibling by the key of its score."""
        return {"keys": [s.key for s in self._series], "t_ns": self._t_ns, "ticks": self._ticks,
                "peers": self._columns.snapshot()}

    def _restore(self, state: Mapping[str, Any]) -> None:
        keys, t_ns, ticks = part(state, "keys", list), part(state, "t_ns", int), part(state, "ticks", int)
        self._memory.load(keys, [(self._columns, part(state, "peers", dict))])
        if t_ns < 0:
            raise Broken("detector state: t_ns: negative")
        self._t_ns, self._ticks = t_ns, ticks


def _deviation(x: Floats, family: Family) -> tuple[Floats, float]:
    """How far each sibling is off the median on the bad side, and the peers' robust spread, floored."""
    y = np.log(x) if family.how == "ratio" else x
    away = y - _median(y)
    spread = MAD_TO_SIGMA * _median(np.abs(away))
    return family.side * away, max(spread, family.spread)


def _is_sibling(value: str | None) -> bool:
    return bool(value) and not str(value).startswith(NOT_A_DISK)


def _median(x: Floats) -> float:
    """Median of a few numbers without NaN; a fifth of the cost of np.median."""
    ordered = np.sort(x)
    return float(ordered[(len(x) - 1) // 2] + ordered[len(x) // 2]) / 2.0


def _thing(series: Series) -> str:
    return series.entity


def _sort(series: Series, family: Family) -> str:
    """Peers have the same other labels (but for an identifier) and, for disks, the same kind of name."""
    value = series.label(family.label) or ""
    kind = value[:2] if family.label == "device" else ""
    others = [f"{k}={v}" for k, v in series.labels if k not in (family.label, "uuid")]
    return ",".join([kind, *others])


def _output(series: Series) -> Series:
    return Series("peer_deviation", "thresholds", labels=tuple(sorted((*series.labels, ("series", series.name)))))


_NAMES = {name for family in FAMILIES for name in (family.series, family.gate)}

DETECTOR = DetectorSpec(
    name="peers",
    config=Config,
    build=Peers,
    scope="group",
    help="siblings (GPUs, disks of one kind, NUMA nodes) that do the same work but behave differently",
)
