"""Prometheus text format 0.0.4 of everything the daemon knows now. Pure: values in, text out.

A value that is missing is left out; it is never 0. Rates were finished before (etio.core.frame), so series are gauges.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal

from etio.core.frame import Frame
from etio.core.series import Labels, Series, labels
from etio.core.status import CollectorHealth, ProgramCost, Status

MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
NS: Final = 1e9
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")

Kind = Literal["gauge", "counter"]
Sample = tuple[Labels, float]


class Exposition:
    """Writes /metrics. Keeps the fixed part of each line, which only changes when a series is new."""

    def __init__(self, help_texts: Mapping[str, str] | None = None) -> None:
        """help_texts: series name to one sentence, for the HELP lines."""
        self._help = dict(help_texts or {})
        self._series: tuple[Series, ...] = ()
        self._families: list[tuple[str, list[tuple[str, int]]]] = []

    def text(self, status: Status, frame: Frame | None) -> str:
        """The whole body; without a frame (blind, or too old) only the daemon's own figures."""
        parts = own_metrics(status)
        if frame is not None:
            parts += self._frame_lines(frame)
        return "\n".join(parts) + "\n"

    def _frame_lines(self, frame: Frame) -> list[str]:
        if frame.series is not self._series:
            self._series, self._families = frame.series, _families(frame.series, self._help)
        values = frame.values.tolist()
        lines: list[str] = []
        for head, members in self._families:
            found = [f"{prefix}{_number(values[at])}" for prefix, at in members if math.isfinite(values[at])]
            if found:
                lines.append(head)
                lines += found
        return lines


def _families(series: Sequence[Series], helps: Mapping[str, str]) -> list[tuple[str, list[tuple[str, int]]]]:
    """Per metric: its HELP and TYPE lines, and (line up to the value, position) of each series, in order of name."""
    groups: dict[str, dict[str, int]] = {}
    units: dict[str, str] = {}
    for at, one in enumerate(series):
        if _NAME.fullmatch(one.name) and all(_LABEL.fullmatch(k) for k, _ in one.labels):
            groups.setdefault(one.name, {})[f"etio_{one.key} "] = at
            units.setdefault(one.name, one.unit)
    texts = {name: helps.get(name) or _default_help(name, units[name]) for name in groups}
    return [(_head(f"etio_{name}", "gauge", texts[name]), list(groups[name].items())) for name in sorted(groups)]


def _default_help(name: str, unit: str) -> str:
    subsystem, _, rest = name.partition("_")
    return f"{subsystem.capitalize()}: {rest.replace('_', ' ') or name}, in {unit}."


def _head(name: str, kind: Kind, text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("\n", "\\n")
    return f"# HELP {name} {escaped}\n# TYPE {name} {kind}"


def _number(value: float) -> str:
    return f"{value:.9g}"


def _metric(name: str, kind: Kind, text: str, samples: Iterable[Sample]) -> list[str]:
    lines = [
        f"{Series(name, '', labels=pairs).key} {value:.15g}" for pairs, value in samples if math.isfinite(value)
    ]
    return [_head(name, kind, text), *lines] if lines else []


def own_metrics(status: Status) -> list[str]:
    """Lines about the daemon itself."""
    tiers = [(labels(tier=tier), float(status.tier == tier)) for tier in sorted({"T1", "T2", status.tier})]
    build = [(labels(version=status.version), 1.0)]
    return [
        *_metric("etio_build_info", "gauge", "Version of the daemon; always 1.", build),
        *_metric("etio_tier", "gauge", "1 for the tier in use: T1 with eBPF, T2 without.", tiers),
        *_gauges(status),
        *_counters(status),
        *_collector_lines(status.collectors),
        *_program_lines(status.programs),
    ]


def _gauges(status: Status) -> list[str]:
    last = status.last_frame_ns / NS if status.last_frame_ns else math.nan
    rows = (
        ("etio_ready", "1 when frames arrive; 0 while blind.", float(status.ready)),
        ("etio_warming", "1 while detectors have not seen enough to judge.", float(status.warming)),
        ("etio_warm_ratio", "Share of series that have a baseline.", status.warm_ratio),
        ("etio_alerts_firing", "Alerts that fire now.", status.alerts_firing),
        ("etio_start_time_seconds", "When the daemon started, since 1970.", status.started_ns / NS),
        ("etio_series", "Series in the catalogue.", status.series),
        ("etio_last_frame_timestamp_seconds", "When the newest frame was made, since 1970.", last),
        ("etio_webhooks_waiting", "Outgoing notifications not delivered yet.", status.webhooks_waiting),
        ("etio_self_cpu_ratio", "CPU use of all own processes, in cores.", status.cpu_percent / 100),
        ("etio_self_kernel_cpu_ratio", "CPU use of eBPF programs, on all cores, in cores.",
         status.kernel_cpu_percent / 100),
        ("etio_self_memory_bytes", "Proportional set size of all own processes.", status.pss_mb * 1e6),
    )
    return [line for name, text, value in rows for line in _metric(name, "gauge", text, [((), float(value))])]


def _counters(status: Status) -> list[str]:
    rows = (
        ("etio_series_refused_total", "Readings of series that the catalogue limit left out.", status.series_refused),
        ("etio_frames_total", "Frames made.", status.frames),
        ("etio_frames_dropped_total", "Frames dropped because the loop was late.", status.dropped_frames),
        ("etio_rows_dropped_total", "Rows the store could not take.", status.dropped_rows),
    )
    return [line for name, text, value in rows for line in _metric(name, "counter", text, [((), float(value))])]


def _collector_lines(collectors: Sequence[CollectorHealth]) -> list[str]:
    """Success is left out for a collector that has nothing to read here: that is no fault to alert on."""
    rows: tuple[tuple[str, Kind, str, list[float]], ...] = (
        ("success", "gauge", "1 when it works, 0 when it failed or was shed.", [_success(c) for c in collectors]),
        ("duration_seconds", "gauge", "Time its last reading took.", [c.seconds for c in collectors]),
        ("last_success_timestamp_seconds", "gauge", "When it last read, since 1970.",
         [c.last_ns / NS if c.last_ns else math.nan for c in collectors]),
        ("readings_total", "counter", "Readings taken.", [float(c.readings) for c in collectors]),
        ("failures_total", "counter", "Readings that failed.", [float(c.failures) for c in collectors]),
        ("time_seconds_total", "counter", "Time spent reading.", [c.seconds_total for c in collectors]),
    )
    states = [(labels(collector=c.name, state=c.state), 1.0) for c in collectors]
    lines = _metric("etio_collector_state", "gauge", "State of the collector, as a label; always 1.", states)
    for name, kind, text, values in rows:
        samples = [(labels(collector=c.name), v) for c, v in zip(collectors, values, strict=True)]
        lines += _metric(f"etio_collector_{name}", kind, text, samples)
    return lines


def _success(collector: CollectorHealth) -> float:
    return {"on": 1.0, "failed": 0.0, "shed": 0.0}.get(collector.state, math.nan)


def _program_lines(programs: Sequence[ProgramCost]) -> list[str]:
    rows: tuple[tuple[str, Kind, str, list[float]], ...] = (
        ("info", "gauge", "An attached eBPF program; always 1.", [1.0] * len(programs)),
        ("runs_total", "counter", "Runs, where the kernel counts them.", [p.run_count for p in programs]),
        ("run_seconds_total", "counter", "Time in its body, as far as counted.", [p.run_seconds for p in programs]),
    )
    names = [labels(program=p.name, attach=p.attach) for p in programs]
    return [
        line for name, kind, text, values in rows
        for line in _metric(f"etio_bpf_program_{name}", kind, text, zip(names, values, strict=True))
    ]
