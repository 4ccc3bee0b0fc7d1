"""Scores of detectors against labelled events: events found, false alarms, VUS-PR, HitRate, paired bootstrap.

The conventions are those of the data folder's README, so that figures can be compared; a test holds this module
against an independent scorer where that is at hand. No point adjustment anywhere: with it, random scores reach 0.8.

References
----------
Paparrizos, J. et al. (2022). Volume under the surface. PVLDB 15(11), 2774-2787.
    https://doi.org/10.14778/3551793.3551830 (VUS-PR).
Su, Y. et al. (2019). OmniAnomaly. KDD'19. https://doi.org/10.1145/3292500.3330672 (HitRate).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
DEFAULT_PERIOD = 125
THRESHOLDS = 250


@dataclass(frozen=True, slots=True)
class Convention:
    """How rows become events, all in rows. cool: gaps up to this merge into one alarm. again: a lasting alarm counts
    once per so many rows. late: an alarm this much after the end still found the event. per_day: rows in a day."""

    cool: int = 10
    again: int = 60
    late: int = 5
    per_day: int = 1440


MINUTE = Convention()
FIVE_MINUTES = Convention(2, 12, 1, 288)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Events of one machine. delays: rows from the start of each found event to its first alarm."""

    events: int
    false_alarms: int
    days: float
    delays: tuple[int, ...]


def segments(label: NDArray[Any]) -> NDArray[np.intp]:
    """Half-open runs of ones, intp[k, 2]."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(label) != 0, [0]])))
    return edges.reshape(-1, 2)


def alarms(mask: Bools, convention: Convention) -> NDArray[np.intp]:
    """First and last row (both included) of every alarm that somebody would be told, intp[k, 2]."""
    rows = np.flatnonzero(mask)
    if not len(rows):
        return np.empty((0, 2), dtype=np.intp)
    cut = np.flatnonzero(np.diff(rows) > convention.cool)
    first, last = rows[np.r_[0, cut + 1]], rows[np.r_[cut, len(rows) - 1]]
    told = [
        (start, min(start + convention.again - 1, b))
        for a, b in zip(first.tolist(), last.tolist(), strict=True) for start in range(a, b + 1, convention.again)
    ]
    return np.array(told, dtype=np.intp)


def outcome(label: NDArray[Any], mask: Bools, convention: Convention) -> Outcome:
    """Events found and false alarms: an alarm that touches no event (`late` rows around it) is false."""
    n, near, delays = len(label), np.zeros(len(label), dtype=bool), []
    spans = segments(label)
    for start, end in spans.tolist():
        near[max(0, start - convention.late):end + convention.late] = True
        hits = np.flatnonzero(mask[start:end + convention.late])
        if len(hits):
            delays.append(int(hits[0]))
    false = sum(not near[a:b + 1].any() for a, b in alarms(mask, convention).tolist())
    return Outcome(len(spans), false, n / convention.per_day, tuple(delays))


@dataclass(frozen=True, slots=True)
class Pooled:
    """Figures over machines: precision, recall, f1, false alarms per machine-day, median delay in rows (NaN: none)."""

    precision: float
    recall: float
    f1: float
    false_per_day: float
    delay: float


def pooled(outcomes: Sequence[Outcome]) -> Pooled:
    """Sums over machines first, ratios then."""
    found = sum(len(o.delays) for o in outcomes)
    false, events = sum(o.false_alarms for o in outcomes), sum(o.events for o in outcomes)
    precision, recall = found / max(1, found + false), found / max(1, events)
    delays = [d for o in outcomes for d in o.delays]
    return Pooled(
        precision, recall, 2 * precision * recall / max(1e-9, precision + recall),
        false / sum(o.days for o in outcomes), float(np.median(delays)) if delays else float("nan"),
    )


def bootstrap(a: Sequence[Outcome], b: Sequence[Outcome], draws: int = 2000, seed: int = 1) -> tuple[float, float]:
    """90 % interval of F1 of a minus F1 of b, machines drawn with replacement, the same ones for both."""
    rng, n = np.random.default_rng(seed), len(a)
    gains = []
    for _ in range(draws):
        drawn = rng.integers(0, n, n).tolist()
        gains.append(pooled([a[i] for i in drawn]).f1 - pooled([b[i] for i in drawn]).f1)
    low, high = np.quantile(gains, [0.05, 0.95])
    return float(low), float(high)


def period(x: Floats) -> int:
    """Length of the strongest cycle of a series in rows by autocorrelation, the buffer of VUS-PR; 125 where none."""
    x = np.asarray(x, dtype=np.float64)[:20_000]
    x = x - x.mean()
    if x.std() == 0:
        return DEFAULT_PERIOD
    spectrum = np.fft.rfft(x, 2 * len(x))
    acf = np.fft.irfft(spectrum * np.conj(spectrum))[3:401]
    peaks = np.flatnonzero((acf[1:-1] > acf[:-2]) & (acf[1:-1] > acf[2:])) + 1
    if not len(peaks):
        return DEFAULT_PERIOD
    best = int(peaks[np.argmax(acf[peaks])])
    return best + 3 if 3 <= best <= 300 else DEFAULT_PERIOD


def vus_pr(label: NDArray[Any], score: Floats, buffer: int = 100) -> float:
    """Volume under the precision-recall surface over buffers 0..buffer around the events; label: 0/1[n], score[n].

    NaN where nothing is labelled.
    """
    if not np.any(label):
        return float("nan")
    order = np.argsort(-score, kind="stable")
    falling = score[order]
    levels = falling[np.linspace(0, len(score) - 1, THRESHOLDS).astype(int)]
    above = np.searchsorted(-falling, -levels, side="right")
    spans, hard = segments(label), np.cumsum(np.asarray(label, dtype=np.float64)[order])[above - 1]
    areas = []
    for width in range(buffer + 1):
        soft = np.cumsum(_soft(label, spans, width)[order])[above - 1]
        peaks = np.sort([score[a:b].max() for a, b in _merged(spans, width // 2, len(score))])
        existence = 1.0 - np.searchsorted(peaks, levels, side="left") / len(peaks)
        recall = np.minimum(soft / (hard[-1] + (soft - hard) / 2), 1.0) * existence
        areas.append(float(np.diff(recall, prepend=0.0) @ (soft / above)))
    return float(np.mean(areas))


def _soft(label: NDArray[Any], spans: NDArray[np.intp], width: int) -> Floats:
    """The labels with slopes of half the width on both sides of each event, at most 1."""
    soft = np.asarray(label, dtype=np.float64).copy()
    half = width // 2
    slope = np.sqrt(1.0 - np.arange(1, half + 1) / width) if half else np.empty(0)
    for start, end in spans.tolist():
        after = soft[end:end + half]
        after += slope[:len(after)]
        before = soft[max(start - half, 0):start][::-1]
        before += slope[:len(before)]
    return np.minimum(soft, 1.0)


def _merged(spans: NDArray[np.intp], half: int, n: int) -> list[tuple[int, int]]:
    """The events widened by half on both sides, those that touch as one; half-open."""
    wide: list[tuple[int, int]] = []
    for start, end in spans.tolist():
        if wide and wide[-1][1] > start - half:
            wide[-1] = wide[-1][0], min(end + half, n)
        else:
            wide.append((max(start - half, 0), min(end + half, n)))
    return wide


def hit_rates(carriers: Floats, events: Sequence[tuple[int, int, Sequence[int]]]) -> list[tuple[float, float]]:
    """HitRate@100 and @150 of each event; carriers: float64[n, d], events: (start, end, positions of true metrics)."""
    rates = []
    for start, end, truth in events:
        ranked = np.argsort(-carriers[start:end].mean(axis=0), kind="stable").tolist()
        rates.append(tuple(len(set(ranked[:int(p * len(truth))]) & set(truth)) / len(truth) for p in (1.0, 1.5)))
    return rates  # type: ignore[return-value]
