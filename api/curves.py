"""Numbers for drawing: curves of one series, the last minutes of the key series, and the expected band."""

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from etio.core.frame import Floats, Frame
from etio.core.ports import Almanac, Archive, Curve, Live
from etio.core.score import Band
from etio.core.series import Series

KEY_NAMES: Final = (
    "cpu_busy_ratio", "cpu_runnable_per_core", "sched_run_delay_p99_seconds", "pressure_cpu_some_ratio",
    "memory_available_ratio", "pressure_memory_some_ratio", "pressure_io_some_ratio", "disk_busy_ratio",
    "disk_read_latency_seconds", "disk_write_latency_seconds", "filesystem_used_ratio",
    "network_receive_bytes_per_second", "network_transmit_bytes_per_second", "tcp_retransmit_ratio",
    "gpu_utilization_ratio", "gpu_temperature_celsius", "process_forks_per_second",
    "anomaly_score",
)
"""What the "host now" panel shows, in this order."""
PER_NAME: Final = 2
"""Of a name with labels, so many: those with the largest value."""


def plain_series(one: Series) -> dict[str, Any]:
    """A series as JSON, with its key."""
    return {"key": one.key, "name": one.name, "unit": one.unit, "kind": one.kind, "labels": dict(one.labels)}


def numbers(values: Floats) -> list[float | None]:
    """float64[k] to JSON numbers with six digits; None where there is no value."""
    return [float(f"{v:.6g}") if math.isfinite(v) else None for v in values.tolist()]


def curve(archive: Archive, live: Live, key: str, span_ns: tuple[int, int], points: int) -> dict[str, Any] | None:
    """One series for drawing, the kept history and the seconds that are only in memory yet; None when unknown.

    t_ns int[k] ascending; low, mean, high float[k] or None; band: expected range of the latest frame, or None.
    season: low and high float[k] that the hour of each point usually brings, or None where the series has no season.
    """
    start, end = span_ns
    kept = archive.curve(key, start, end, points)
    last = int(kept.t_ns[-1]) if kept is not None and len(kept.t_ns) else start - 1
    tail = _tail(live, key, max(start, last + 1), end)
    found = _joined(kept, tail)
    if found is None:
        return None
    return {**_plain_curve(found), "band": _band_of(live, key), "season": _season_of(live, key, found)}


def _tail(live: Live, key: str, start_ns: int, end_ns: int) -> Curve | None:
    if end_ns < start_ns:
        return None
    window = live.recent(start_ns, [key.split("{", 1)[0]])
    at = next((i for i, s in enumerate(window.series) if s.key == key), None)
    if at is None:
        return None
    inside = window.t_ns <= end_ns
    values = window.values[inside, at]
    return Curve(window.series[at], window.t_ns[inside], values, values, values)


def _joined(kept: Curve | None, tail: Curve | None) -> Curve | None:
    if kept is None or tail is None:
        return kept or tail
    pairs = ((kept.low, tail.low), (kept.mean, tail.mean), (kept.high, tail.high))
    low, mean, high = (np.concatenate(pair) for pair in pairs)
    return Curve(kept.series, np.concatenate([kept.t_ns, tail.t_ns]), low, mean, high)


def _plain_curve(found: Curve) -> dict[str, Any]:
    return {
        **plain_series(found.series), "t_ns": found.t_ns.tolist(),
        "low": numbers(found.low), "mean": numbers(found.mean), "high": numbers(found.high),
    }


def _season_of(live: Live, key: str, found: Curve) -> dict[str, list[float | None]] | None:
    one = live.season(key) if isinstance(live, Almanac) else None
    if one is None:
        return None
    at = [one.slot(t) for t in found.t_ns.tolist()]
    return {"low": numbers(one.low[at].astype(np.float64)), "high": numbers(one.high[at].astype(np.float64))}


def _band_of(live: Live, key: str) -> dict[str, float | None] | None:
    frame, band = live.latest() or (None, None)
    if frame is None or band is None:
        return None
    at = next((i for i, s in enumerate(frame.series) if s.key == key), None)
    if at is None or at >= len(band.low) or math.isnan(band.low[at]):
        return None
    low, middle, high = numbers(np.array([band.low[at], band.middle[at], band.high[at]]))
    return {"low": low, "middle": middle, "high": high}


def now(live: Live, start_ns: int) -> dict[str, Any]:
    """The key series since start_ns: {"t_ns": [...], "series": [{key, name, unit, labels, values}]}."""
    window = live.recent(start_ns, KEY_NAMES)
    chosen = key_places(window.series, window.values[-1] if len(window.t_ns) else np.empty(0))
    rows = [{**plain_series(window.series[i]), "values": numbers(window.values[:, i])} for i in chosen]
    return {"t_ns": window.t_ns.tolist(), "series": rows}


def key_places(series: Sequence[Series], values: Floats) -> list[int]:
    """Positions of the series worth showing, in the order of KEY_NAMES; few per name, the largest first."""
    groups: dict[str, list[int]] = {name: [] for name in KEY_NAMES}
    for i, one in enumerate(series):
        if one.name in groups and one.label("device") != "lo" and i < len(values) and math.isfinite(values[i]):
            groups[one.name].append(i)
    return [i for found in groups.values() for i in sorted(found, key=lambda i: -values[i])[:PER_NAME]]


def current(frame: Frame, band: Band | None) -> dict[str, list[float | None]]:
    """Key series of one frame: key to [value, low, high of the expected range]."""
    result = {}
    for i, one in enumerate(frame.series):
        if one.name in _KEY_SET and math.isfinite(frame.values[i]):
            bounds = [band.low[i], band.high[i]] if band is not None and i < len(band.low) else [math.nan, math.nan]
            result[one.key] = numbers(np.array([frame.values[i], *bounds]))
    return result


_KEY_SET = frozenset(KEY_NAMES)

