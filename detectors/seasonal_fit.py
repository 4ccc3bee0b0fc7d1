"""What is usual at this hour: seasons fitted to weeks of roll-ups, away from the daemon's own process.

Hourly means are taken apart by STL into trend, season and rest, for the day and, from two weeks on, for the week. A
season is believed only if it would have foretold the newest period from the earlier ones clearly better than the
plain median does, and if it explains a good part of the variance. Around it lies the range of what was really seen in
each hour, from the smallest and largest values of the five-minute stretches.

Only this module needs statsmodels, and only when it is called: it runs in the season worker.

References
----------
Cleveland, R. B., Cleveland, W. S., McRae, J. E., Terpenning, I. (1990). STL: a seasonal-trend decomposition procedure
    based on loess. Journal of Official Statistics 6(1), 3-73.
Hyndman, R. J., Athanasopoulos, G. (2021). Forecasting: principles and practice, 3rd ed., 4.3 (strength of a season).
    https://otexts.com/fpp3/stlfeatures.html
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from detectors.columns import Ints
from detectors.robust_z import FLOORS, OTHER_FLOOR
from etio.core.frame import Floats
from etio.core.season import DAY, HOUR_NS, UTC, WEEK, Season, Zone, slot
from etio.core.series import Series

PRESENT = 0.7
"""Share of the hours that must have a value."""
STRENGTH = 0.5
"""Least share of the variance (of what the trend leaves) that the season explains."""
SKILL = 0.3
"""Least part of the plain median's error that is saved when the newest period is foretold."""
WEEK_GAIN = 0.85
"""The week is taken where its error is at most this part of that of the day."""
QUANTILE = 0.98
MARGIN = 1.3
"""The range reaches so many times as far from the middle as the quantile of what was seen in this hour."""


@dataclass(frozen=True, slots=True)
class Rollup:
    """Five-minute stretches of one series. t_ns: int64[k] ascending, where each begins; low, mean, high: float64[k],
    NaN = no value. zone: of the host; people and their timers live by its clock."""

    series: Series
    t_ns: NDArray[np.int64]
    low: Floats
    mean: Floats
    high: Floats
    zone: Zone = UTC

    def by_wall_clock(self) -> "Rollup":
        """The same with the time that the clock on the wall showed: one hour is missing or there twice where it was
        put forward or back."""
        return replace(self, t_ns=np.array([self.zone.local(t) for t in self.t_ns.tolist()], dtype=np.int64))


def fit(rollup: Rollup) -> Season | None:
    """The season of a series, or None: too short, too many gaps, or no season to speak of.

    >>> t = np.arange(0, 4 * 24 * 3600, 300)
    >>> x = 0.3 + 0.2 * np.sin(2 * np.pi * t / 86400) + np.random.default_rng(1).normal(0, 0.01, len(t))
    >>> found = fit(Rollup(Series("cpu_busy_ratio", "ratio"), t * 10**9, x - 0.02, x, x + 0.02))
    >>> len(found.middle), found.explained > 0.9, bool(found.low[6] < 0.5 < found.high[6] < 0.6)
    (24, True, True)
    """
    made_ns = int(rollup.t_ns[-1]) if len(rollup.t_ns) else 0
    rollup = rollup.by_wall_clock()
    first, hourly = _hourly(rollup)
    known = np.isfinite(hourly)
    if len(hourly) < 2 * DAY or known.mean() < PRESENT:
        return None
    span = WEEK if len(hourly) >= 2 * WEEK else DAY
    day, plain = _error(hourly, DAY, span)
    week = _error(hourly, WEEK, span)[0] if span == WEEK else np.inf
    hours, error = (WEEK, week) if week <= WEEK_GAIN * day else (DAY, day)
    if not error <= (1 - SKILL) * plain or plain == 0.0:
        return None
    season, trend, explained = _stl(hourly, hours)
    if explained < STRENGTH:
        return None
    return _season(rollup, first, season, trend, (hours, explained, made_ns))


def _hourly(rollup: Rollup) -> tuple[int, Floats]:
    """(first hour since the epoch, mean of each hour from there on, NaN = nothing seen)."""
    good = np.isfinite(rollup.mean)
    if not good.any():
        return 0, np.empty(0)
    hour = rollup.t_ns[good] // HOUR_NS
    first = int(hour.min())
    count = np.bincount(hour - first)
    total = np.bincount(hour - first, weights=rollup.mean[good])
    with np.errstate(invalid="ignore"):
        return first, np.where(count > 0, total / count, np.nan)


def _by_slot(hourly: Floats, hours: int) -> Floats:
    """float64[periods, hours], newest period last and whole; NaN-padded in front."""
    periods = -(-len(hourly) // hours)
    return np.concatenate([np.full(periods * hours - len(hourly), np.nan), hourly]).reshape(periods, hours)


def _error(hourly: Floats, hours: int, span: int) -> tuple[float, float]:
    """Mean absolute errors of foretelling the shape of the newest `span` hours: by the same hours of earlier periods,
    and by nothing. The level itself is left out of it, so that a drift is no matter."""
    newest = hourly[-span:]
    told = np.resize(_median(_by_slot(hourly[:-span], hours), 0), span)
    known = np.isfinite(told) & np.isfinite(newest)
    if known.sum() < PRESENT * span:
        return np.inf, np.inf
    flat, foretold = newest[known] - np.median(newest[known]), told[known] - np.median(told[known])
    return float(np.mean(np.abs(flat - foretold))), float(np.mean(np.abs(flat)))


def _median(table: Floats, axis: int) -> Floats:
    """Median over one axis without NaN; NaN where nothing is known."""
    ordered = np.sort(table, axis=axis)
    count = np.isfinite(table).sum(axis=axis)
    low = np.take_along_axis(ordered, np.expand_dims(np.maximum(count - 1, 0) // 2, axis), axis)
    high = np.take_along_axis(ordered, np.expand_dims(np.maximum(count, 1) // 2, axis), axis)
    return np.where(count > 0, ((low + high) / 2).squeeze(axis), np.nan)


def _stl(hourly: Floats, hours: int) -> tuple[Floats, Floats, float]:
    """(season of each hour, trend of each hour, share of the variance explained), gaps filled by their slot."""
    from statsmodels.tsa.seasonal import STL  # 60 MB that the daemon does not need

    usual = np.resize(np.roll(_median(_by_slot(hourly, hours), 0), len(hourly) % hours), len(hourly))
    filled = np.where(np.isfinite(hourly), hourly, usual)
    filled = np.where(np.isfinite(filled), filled, np.nanmedian(hourly))
    parts = STL(filled, period=hours, robust=True).fit()
    season, rest = np.asarray(parts.seasonal), np.asarray(parts.resid)
    spread = float(np.var(season + rest))
    explained = max(0.0, 1.0 - float(np.var(rest)) / spread) if spread > 0 else 0.0
    return season, np.asarray(parts.trend), explained


def _season(rollup: Rollup, first: int, season: Floats, trend: Floats, told: tuple[int, float, int]) -> Season:
    """The range of each hour around the season at the level of the newest period. told: hours, explained, made_ns."""
    hours, explained, made_ns = told
    begin = slot(first * HOUR_NS, hours)
    slots = (begin + np.arange(len(season))) % hours
    shape = np.array([np.median(season[slots == i]) for i in range(hours)])
    middle = shape + float(np.median(trend[-min(hours, len(trend)):]))
    good = np.isfinite(rollup.low) & np.isfinite(rollup.high)
    hour = np.clip(rollup.t_ns[good] // HOUR_NS - first, 0, len(trend) - 1)
    at, usual = slots[hour], shape[slots[hour]] + trend[hour]
    floor = FLOORS.get(rollup.series.unit, OTHER_FLOOR)
    up = _reach(rollup.high[good] - usual, at, hours) + floor
    down = _reach(usual - rollup.low[good], at, hours) + floor
    least = -np.inf if rollup.series.unit == "celsius" else 0.0
    middle = np.maximum(middle, least)
    low = np.minimum(np.maximum(middle - down, least), middle)
    edges = [a.astype(np.float32) for a in (low, middle, middle + up)]
    return Season(rollup.series.key, edges[0], edges[1], edges[2], explained, made_ns, rollup.zone)


def _reach(away: Floats, at: Ints, hours: int) -> Floats:
    """How far from the middle what was seen in each hour (and its neighbours) reached, with a margin; >= 0."""
    reach = np.zeros(hours)
    for i in range(hours):
        near = away[(at == i) | (at == (i - 1) % hours) | (at == (i + 1) % hours)]
        own = away[at == i]
        reach[i] = max(np.quantile(own, QUANTILE) if len(own) else 0.0, np.quantile(near, 0.9) if len(near) else 0.0)
    return MARGIN * np.maximum(reach, 0.0)
