"""What each series did: its calm level, its value now, when it left its usual range, how complete it is.

Everything is computed for all series at once; a thousand series of ten minutes take tens of milliseconds.
The baseline is a median with the median absolute deviation, so that up to half of the calm time may be bad
(Rousseeuw and Croux 1993, doi:10.1080/01621459.1993.10476408).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from etio.core.frame import NS, Floats
from etio.core.ports import Window
from etio.core.series import Series
from rca.case import Case

MIN_CALM = 12
"""Fewer calm samples than this make no baseline."""
BAND = 4.0
"""Half width of the usual range in robust standard deviations."""
LASTING = 3
ONSET_SHARE = 0.1
"""An exit from the usual range by less than this part of what it is now is no beginning of it."""
BORN_NS = 10 * NS
"""A series that began at most this long before the onset is new with the fault."""
GUESTS = frozenset(("cgroup", "mount"))
"""Labels of things that come and go while a host runs."""
FLOORS = {"ratio": 0.02, "seconds": 0.0005, "seconds/s": 0.01, "s/s": 0.01, "1/s": 1.0, "1": 0.5, "bytes/s": 65536.0,
          "bytes": 1048576.0, "celsius": 2.0, "watts": 5.0, "cores": 0.05, "pages/s": 16.0}
"""Smallest spread that is taken seriously, by unit: below it a deviation is of no practical size."""

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Measure:
    """One series over the window of a case, in its own unit; NaN = unknown.

    now: median of the last seconds, mean: their mean; peak, low: extremes since the onset; last: newest value.
    baseline, spread: median and robust standard deviation (floored) of the calm time.
    onset_ns: first lasting exit from the usual range, or first sample of a series that began with the fault; 0 where
        neither is known.
    coverage: share of the expected samples since the onset of the incident, 0..1.
    """

    series: Series
    now: float
    mean: float
    peak: float
    low: float
    last: float
    baseline: float
    spread: float
    onset_ns: int
    coverage: float
    window_ns: tuple[int, int]

    @property
    def deviation(self) -> float:
        """Distance of now from the baseline in spreads; NaN without a baseline."""
        return (self.now - self.baseline) / self.spread

    @property
    def unusual(self) -> bool | None:
        """Whether it is outside its usual range now; None without a baseline."""
        return None if np.isnan(self.deviation) else abs(self.deviation) > BAND


@dataclass(frozen=True, slots=True)
class Parts:
    """Which samples are calm, since the lead, since the onset, and recent: bool[k] each."""

    calm: Bools
    lead: Bools
    since: Bools
    recent: Bools


def parts(t_ns: NDArray[np.int64], case: Case) -> Parts:
    """Divides the window of a case."""
    settings, onset, end = case.settings, case.onset_ns, case.end_ns
    calm = t_ns < onset - int(settings.lead_s * NS)
    if calm.sum() < MIN_CALM:
        calm = t_ns < onset - 2 * NS
    inside = t_ns <= end
    since = (t_ns >= onset - 2 * NS) & inside
    if case.incident.resolved_ns:
        tail_end = onset + int(0.7 * (end - onset))
        recent = (t_ns >= onset) & (t_ns <= tail_end)
    else:
        recent = (t_ns >= max(onset, end - int(settings.recent_s * NS))) & inside
    if recent.sum() < 3:
        recent = np.zeros(len(t_ns), dtype=bool)
        recent[np.flatnonzero(inside)[-3:]] = True
    return Parts(calm, ~calm & inside, since, recent)


def measure(window: Window, case: Case) -> tuple[Measure, ...]:
    """One Measure for each series of the window."""
    if not len(window.t_ns) or not window.series:
        return ()
    values = np.ascontiguousarray(window.values.T)
    values = np.where(np.isfinite(values), values, np.nan)
    shares = [s.name.startswith("pressure_") for s in window.series]
    values[shares] = np.minimum(values[shares], 1.0)  # a tick that came late counts the time of two
    part = parts(window.t_ns, case)
    baseline, spread = _baseline(values[:, part.calm], window.series)
    now = _median(values[:, part.recent])
    since = values[:, part.since | part.recent]
    onset = _onsets(window.t_ns[part.lead], values[:, part.lead], now, baseline, spread)
    born = _newborn(window, values, part, case)
    onset = np.where(onset == 0, born, onset)
    coverage = _coverage(window.t_ns, since, part, case, born)
    last = _last(since)
    peak, low = _extreme(since, np.fmax), _extreme(since, np.fmin)
    span = (case.onset_ns, case.end_ns)
    columns = (now, _mean(values[:, part.recent]), peak, low, last, baseline, spread)
    rows = np.stack(columns, axis=1).tolist()
    ends = zip(onset.tolist(), coverage.tolist(), strict=True)
    return tuple(_row(s, row, end, span) for s, row, end in zip(window.series, rows, ends, strict=True))


def _row(series: Series, row: list[float], end: tuple[int, float], span: tuple[int, int]) -> Measure:
    now, mean, peak, low, last, baseline, spread = row
    return Measure(series, now, mean, peak, low, last, baseline, spread, end[0], end[1], span)


def _median(values: Floats) -> Floats:
    """Median of each row over its finite values: float64[n]; NaN for empty rows. Sorting puts NaN last."""
    if values.shape[1] == 0:
        return np.full(len(values), np.nan)
    ordered = np.sort(values, axis=1)
    count = np.isfinite(ordered).sum(axis=1)
    rows = np.arange(len(values))
    low, high = np.maximum(count - 1, 0) // 2, np.maximum(count, 1) // 2
    middle = (ordered[rows, low] + ordered[rows, high]) / 2
    return np.where(count > 0, middle, np.nan)


def _mean(values: Floats) -> Floats:
    """Mean of each row over its finite values: float64[n]; NaN for empty rows."""
    valid = np.isfinite(values)
    count = valid.sum(axis=1)
    total = np.where(valid, values, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _baseline(calm: Floats, series: tuple[Series, ...]) -> tuple[Floats, Floats]:
    enough = np.isfinite(calm).sum(axis=1) >= MIN_CALM
    middle = np.where(enough, _median(calm), np.nan)
    scale = 1.4826 * _median(np.abs(calm - middle[:, None]))
    floor = np.array([FLOORS.get(s.unit, 1e-9) for s in series])
    spread = np.fmax(np.fmax(scale, floor), 0.05 * np.abs(middle))
    return middle, np.where(enough, spread, np.nan)


def _onsets(
    t_ns: NDArray[np.int64], values: Floats, now: Floats, baseline: Floats, spread: Floats
) -> NDArray[np.int64]:
    """First lasting exit in the direction of `now`: int64[n], 0 where none."""
    none = np.zeros(len(values), dtype=np.int64)
    if not len(t_ns):
        return none
    direction = np.sign(now - baseline)
    with np.errstate(invalid="ignore"):
        enough = np.fmax(BAND * spread, ONSET_SHARE * np.abs(now - baseline))
        out = (values - baseline[:, None]) * direction[:, None] > enough[:, None]
    valid = np.isfinite(values)
    runs = out.copy()
    for step in range(1, LASTING):
        ahead = np.ones_like(out)
        ahead[:, :-step] = (out | ~valid)[:, step:]
        runs &= ahead
    tail_out = np.cumsum(out[:, ::-1], axis=1)[:, ::-1]
    tail_valid = np.cumsum(valid[:, ::-1], axis=1)[:, ::-1]
    lasting = runs & (tail_out >= 0.6 * np.maximum(tail_valid, 1))
    first = np.argmax(lasting, axis=1)
    return np.where(lasting.any(axis=1), t_ns[first], none)


def _newborn(window: Window, values: Floats, part: Parts, case: Case) -> NDArray[np.int64]:
    """First sample of series that began with the fault: int64[n], 0 for all others.

    Without a calm time this is only told of things that come and go, not of collectors that have just begun.
    """
    valid = np.isfinite(values)
    at = np.argmax(valid, axis=1)
    first = window.t_ns[at]
    began = valid.any(axis=1) & (first >= case.onset_ns - BORN_NS) & (at >= LASTING)
    if part.calm.sum() < MIN_CALM:
        began &= np.array([any(name in GUESTS for name, _ in s.labels) for s in window.series])
    return np.where(began, first, 0)


def _extreme(values: Floats, pick: np.ufunc) -> Floats:
    if values.shape[1] == 0:
        return np.full(len(values), np.nan)
    found: Floats = pick.reduce(values, axis=1)
    return found


def _last(values: Floats) -> Floats:
    if values.shape[1] == 0:
        return np.full(len(values), np.nan)
    valid = np.isfinite(values)
    at = values.shape[1] - 1 - np.argmax(valid[:, ::-1], axis=1)
    return np.where(valid.any(axis=1), values[np.arange(len(values)), at], np.nan)


def _coverage(
    t_ns: NDArray[np.int64], since: Floats, part: Parts, case: Case, born: NDArray[np.int64]
) -> Floats:
    """Share of samples there were, of those the usual step promises; a series that is new counts from its birth."""
    step = float(np.median(np.diff(t_ns))) if len(t_ns) > 1 else float(NS)
    frames = max(int((part.since | part.recent).sum()), 1)
    begin = np.maximum(born, case.onset_ns)
    promised = np.maximum((case.end_ns - begin) / max(step, 1.0), 1.0) * 0.9
    promised = np.where(begin > case.onset_ns, promised, np.fmax(promised, frames))
    share: Floats = np.isfinite(since).sum(axis=1) / promised
    return np.minimum(share, 1.0)


def rising_share(t_ns: NDArray[np.int64], values: Floats, pieces: int = 8) -> tuple[float, float]:
    """How steadily one series climbs: (share of rising steps between medians of equal pieces, growth per second).

    (NaN, NaN) with fewer than four samples a piece. values: float64[k] of one series.
    """
    keep = np.isfinite(values)
    if keep.sum() < 4 * pieces:
        return float("nan"), float("nan")
    t, v = t_ns[keep], values[keep]
    levels = np.array([np.median(piece) for piece in np.array_split(v, pieces)])
    seconds = (t[-1] - t[0]) / NS * (pieces - 1) / pieces
    return float((np.diff(levels) > 0).mean()), float((levels[-1] - levels[0]) / seconds)
