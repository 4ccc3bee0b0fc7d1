"""Sample data for the tests of the HTTP interface and the page: one host with a throttled service, held in memory."""

import contextlib
import re
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from api.app import create_app
from api.config import ApiConfig
from api.server import ApiServer
from etio.core.alert import Alert, Incident, fingerprint
from etio.core.event import HostEvent
from etio.core.evidence import Evidence
from etio.core.frame import Frame
from etio.core.ports import Curve, QueryResult, Window
from etio.core.report import (
    Culprit,
    DataQuality,
    Finding,
    ModelNote,
    Moment,
    Overhead,
    Report,
    RuledOut,
    Suggestion,
)
from etio.core.score import Band
from etio.core.series import Series, labels
from etio.core.status import CollectorHealth, ProgramCost, Status

NS = 1_000_000_000
NAN = float("nan")
HOSTILE = '<img src=x onerror="document.title=\'owned\'">'
UNIT = "billing-api.service"
GROUP = f"/system.slice/{UNIT}"
THROTTLED = Series("cgroup_cpu_throttled_ratio", "ratio", "mean", labels(cgroup=GROUP))
DELAY = Series("sched_run_delay_p99_seconds", "seconds")
BUSY = Series("cpu_busy_ratio", "ratio", "mean")
OVERFLOWS = Series("tcp_listen_overflows_per_second", "1/s", "counter")
SECONDS = 900
LEVELS = {
    "throttled": 0.004, "delay": 0.003, "overflows": 0.2, "available": 0.44, "latency": 0.0004,
    "bytes_per_second": 2.4e6, "filesystem": 0.61, "pressure": 0.02, "busy": 0.38,
}
ONSET_S = 300
"""The trouble began so many seconds before now."""


def make_series(extra: int = 0) -> tuple[Series, ...]:
    """Key series and `extra` further ones, to weigh a large host."""
    found = [
        BUSY, DELAY, THROTTLED, OVERFLOWS,
        Series("cpu_runnable_per_core", "1"), Series("pressure_cpu_some_ratio", "ratio", "counter"),
        Series("memory_available_ratio", "ratio"), Series("pressure_memory_some_ratio", "ratio", "counter"),
        Series("pressure_io_some_ratio", "ratio", "counter"),
        Series("disk_busy_ratio", "ratio", "counter", labels(device="nvme0n1")),
        Series("disk_busy_ratio", "ratio", "counter", labels(device="sda")),
        Series("disk_read_latency_seconds", "seconds", "mean", labels(device="nvme0n1")),
        Series("network_receive_bytes_per_second", "bytes/s", "counter", labels(device="eth0")),
        Series("network_receive_bytes_per_second", "bytes/s", "counter", labels(device="lo")),
        Series("network_transmit_bytes_per_second", "bytes/s", "counter", labels(device="eth0")),
        Series("filesystem_used_ratio", "ratio", "gauge", labels(device="sda1", mount='/data "x"\\n', type="ext4")),
        Series("vm_page_in_kib_per_second", "KiB/s", "counter"),
    ]
    return (*found, *(Series("cpu_core_busy_ratio", "ratio", "mean", labels(cpu=str(i))) for i in range(extra)))


def make_values(series: tuple[Series, ...], seconds: int = SECONDS) -> np.ndarray:
    """float64[seconds, n]: calm, then the trouble for the last ONSET_S seconds; one value is missing at the end."""
    rng = np.random.default_rng(7)
    n = len(series)
    usual = np.array([_usual(s) for s in series])
    values = usual * (1 + 0.08 * rng.standard_normal((seconds, n)))
    late = np.arange(seconds) >= seconds - ONSET_S
    for name, level in (("cgroup_cpu_throttled_ratio", 0.91), ("sched_run_delay_p99_seconds", 0.0412),
                        ("tcp_listen_overflows_per_second", 38.0), ("pressure_cpu_some_ratio", 0.34)):
        at = next(i for i, s in enumerate(series) if s.name == name)
        values[late, at] = level * (1 + 0.05 * rng.standard_normal(late.sum()))
    values[:, 16] = NAN
    ratio = np.array([one.unit == "ratio" for one in series])
    return np.where(ratio, np.minimum(np.abs(values), 1.0), np.abs(values))


def _usual(one: Series) -> float:
    return next((level for word, level in LEVELS.items() if word in one.name), 0.7)


def make_report(now_ns: int, culprit_name: str = UNIT, verdict: str = "CONFIRMED") -> Report:
    """The illustration of the design, filled in completely."""
    since = now_ns - ONSET_S * NS
    window = (since - 600 * NS, now_ns)
    claim = "wanted 3.4 cores where its quota allows 2.0"
    culprit = Culprit("unit", culprit_name, 4711, GROUP, UNIT, claim, ("E1", "E2"))
    return Report(
        id="2026-11-21-0007-r1", incident_id="2026-11-21-0007", host="gpu-17",
        created_ns=since + 2 * NS, since_ns=since,
        title=f"{culprit_name} is throttled by its own CPU quota", verdict=verdict, severity="critical",
        summary=f"{culprit_name} may use 2.0 cores and has wanted 3.4 since the onset. The kernel stopped it in 91 % "
                "of the scheduling periods [E1], so its threads waited up to 41 ms to run [E2] while the host as a "
                "whole was 38 % busy [E3]. Its accept queue overflowed two seconds later [E4].",
        findings=(
            Finding("cgroup_cpu_throttling", f"{culprit_name} is throttled by its own CPU quota", verdict,
                    "Nearly every period ended with the quota used up while other cores were free.",
                    ("E1", "E2"), ("E5",), f"cgroup={GROUP}", culprit, 0.92),
            Finding("runqueue_contention", "Threads wait long for a core", "LIKELY", "Follows from the throttling.",
                    ("E2",), ("E3",), "host", None, 0.41),
        ),
        ruled_out=(RuledOut("cpu_saturation", "Host CPU saturated", "38 % busy, cores were free", ("E3",)),
                   RuledOut("memory_pressure", "Memory pressure", "PSI memory stayed at 0.0 %", ())),
        evidence=_evidence(window, since), suggestions=_suggestions(now_ns),
        timeline=(Moment(since - 17 * NS, f"{UNIT} restarted"), Moment(since, "E1 leaves its usual range", ("E1",)),
                  Moment(since + NS, "E2 leaves its usual range", ("E2",)),
                  Moment(since + 2 * NS, "CgroupCpuThrottled fires; this report, deterministic")),
        changes=(Moment(since - 17 * NS, f"{UNIT} restarted (main process 4711, was 3120)"),),
        follows=("accept queue overflows on :8443",), culprit=culprit,
        data_quality=DataQuality("T1", 0.99, ("GPU series: no NVIDIA driver",), 2, False),
        model=ModelNote("llm", "qwen3:8b", "http://127.0.0.1:11434", 22.0, 3112, 418, "",
                        ('"disk latency doubled": E7 is no evidence of this report',)),
        overhead=Overhead(0.4, 131.0), narrative="The quota was set for the old version of the service.",
        alerts=("CgroupCpuThrottled",), next_steps=("Compare CPU time per request before and after the restart.",),
    )


def _evidence(window: tuple[int, int], since: int) -> tuple[Evidence, ...]:
    def series(name: str, one: Series, claim: str, figures: tuple[float, float, float], late_s: int = 0) -> Evidence:
        value, calm, score = figures
        onset = since + late_s * NS if late_s >= 0 else 0
        source = "eBPF sched, histogram" if one is DELAY else "cpu.stat"
        return Evidence(name, "series", claim, one.entity, one.key, window, value, one.unit, calm, score, onset, 0.99,
                        source)

    return (
        series("E1", THROTTLED, f"{UNIT} was stopped in 91 % of its scheduling periods", (0.91, 0.004, 7.3)),
        series("E2", DELAY, "Threads waited 41.2 ms to run (99th percentile)", (0.0412, 0.003, 5.1), 1),
        series("E3", BUSY, "The host was 38 % busy, as before", (0.38, 0.38, 0.2), -1),
        series("E4", OVERFLOWS, "38 connections per second found the accept queue full", (38.0, 0.2, 4.0), 2),
        Evidence("E5", "missing", "No stacks were sampled: perf is not permitted here", source="not collected"),
        Evidence("E6", "event", f"{UNIT} restarted before", f"unit={UNIT}", onset_ns=since - 17 * NS, source="cgroup"),
    )


def _suggestions(now_ns: int) -> tuple[Suggestion, ...]:
    return (Suggestion(
        card="cgroup_cpu_quota", title="Raise the quota to 400 %", knob=f"CPUQuota of {UNIT}",
        current="200%", proposed="400%",
        why="The unit wanted 3.4 cores at its peak; the host has 64, of which 24 are idle.",
        effect="throttled periods below 1 % within one minute", risk="low",
        risk_note="takes up to 2 cores from batch.slice",
        apply=f"systemctl set-property --runtime {UNIT} CPUQuota=400%",
        rollback=f"systemctl set-property --runtime {UNIT} CPUQuota=200%",
        verify=f"cat /sys/fs/cgroup{GROUP}/cpu.stat",
        source="Linux kernel documentation, cgroup-v2, cpu.max", read_ns=now_ns, cause="cgroup_cpu_throttling",
    ),)


def make_alert(now_ns: int, state: str = "firing", name: str = "CgroupCpuThrottled") -> Alert:
    """The alert behind the report."""
    pairs = labels(cgroup=GROUP)
    since = now_ns - ONSET_S * NS
    summary = f"{UNIT} is throttled in 91 % of its periods"
    return Alert(fingerprint(name, pairs), name, "critical", state, pairs, summary,
                 THROTTLED.key, 0.91, "ratio", 7.3, "rules", since, since + 2 * NS,
                 now_ns if state == "resolved" else 0, "2026-11-21-0007")


def make_incident(now_ns: int, state: str = "firing", report: str = "ready") -> Incident:
    """The incident of that alert."""
    alert = make_alert(now_ns, state)
    return Incident("2026-11-21-0007", alert.firing_ns, (alert,), alert.resolved_ns, report)


def old_incident(now_ns: int) -> tuple[Incident, Report]:
    """A resolved incident of yesterday whose culprit carries a hostile name."""
    then = now_ns - 86400 * NS
    pairs = labels(device="sda")
    alert = Alert(fingerprint("DiskSaturated", pairs), "DiskSaturated", "warning", "resolved", pairs,
                  "sda was busy 100 %", "", NAN, "ratio", 2.0, "tail", then, then + 5 * NS, then + 240 * NS,
                  "2026-11-20-0003")
    model = ModelNote("deterministic", fallback_reason="no model endpoint is set")
    report = replace(make_report(then + ONSET_S * NS, HOSTILE, "LIKELY"), id="2026-11-20-0003-r1",
                     incident_id="2026-11-20-0003", severity="warning", model=model)
    return Incident("2026-11-20-0003", then + 5 * NS, (alert,), then + 240 * NS, "ready"), report


def make_status(now_ns: int, /, **changes: object) -> Status:
    """A daemon in good order on tier T1."""
    collectors = (
        CollectorHealth("cpu", "on", series=24, seconds=0.0004, seconds_total=3.2, readings=9000, last_ns=now_ns),
        CollectorHealth("nvml", "nodata", "no NVIDIA driver", "install one if there is a GPU"),
        CollectorHealth("links", "failed", "netlink: Operation not permitted", "run `etio doctor`", failures=3),
    )
    programs = (ProgramCost("run_delay", "raw_tracepoint sched_switch", 123457.0, 0.0213), ProgramCost("oom", "tp oom"))
    status = Status(
        version="0.1.0", host="gpu-17", started_ns=now_ns - 9000 * NS, now_ns=now_ns, tier="T1", tier_reason="",
        ready=True, reasons=(), warming=False, warm_ratio=1.0, series=842, series_refused=2, frames=9000,
        dropped_frames=0, dropped_rows=0, last_frame_ns=now_ns, alerts_firing=1,
        collectors=collectors, model="qwen3:8b at 127.0.0.1",
        cpu_percent=0.43, pss_mb=131.2, programs=programs,
    )
    return replace(status, **changes)


@dataclass
class SampleLive:
    """A running daemon, standing still at now_ns unless told otherwise."""

    now_ns: int = field(default_factory=lambda: time.time_ns() // NS * NS)
    extra: int = 0
    changes: dict[str, object] = field(default_factory=dict)
    running: bool = False

    def __post_init__(self) -> None:
        self.series = make_series(self.extra)
        self.values = make_values(self.series)
        self.t_ns = self.now_ns - NS * np.arange(SECONDS - 1, -1, -1, dtype=np.int64)
        self.asked = 0

    def status(self) -> Status:
        self.asked += 1
        return make_status(time.time_ns() if self.running else self.now_ns, **self.changes)

    def steps(self) -> dict[tuple[str, str], np.ndarray]:
        return {("vllm:8000", "llama-8b"): np.array([[4.0, 4000.0, 25.0]])}

    def latest(self) -> tuple[Frame, Band | None] | None:
        row = self.values[-1]
        late = time.time_ns() // NS * NS if self.running else self.now_ns
        usual = np.array([_usual(s) for s in self.series])
        return Frame(late, self.series, row), Band(usual * 0.7, usual, usual * 1.3)

    def recent(self, start_ns: int, names: list[str] | None = None) -> Window:
        rows = self.t_ns >= max(start_ns, self.now_ns - 600 * NS)
        places = [i for i, s in enumerate(self.series) if names is None or s.name in names]
        return Window(tuple(self.series[i] for i in places), self.t_ns[rows], self.values[np.ix_(rows, places)])


@dataclass
class SampleArchive:
    """What was kept, with SQL over an in-memory SQLite that stands in for the store."""

    live: SampleLive
    incidents_kept: list[Incident] = field(default_factory=list)
    reports_kept: list[Report] = field(default_factory=list)

    def window(self, start_ns: int, end_ns: int, names: list[str] | None = None) -> Window:
        found = self.live.recent(0, names)
        rows = (found.t_ns >= start_ns) & (found.t_ns <= end_ns)
        return Window(found.series, found.t_ns[rows], found.values[rows])

    def events(self, start_ns: int, end_ns: int) -> list[HostEvent]:
        return []

    def series(self) -> tuple[Series, ...]:
        return self.live.series

    def curve(self, key: str, start_ns: int, end_ns: int, points: int = 600) -> Curve | None:
        at = next((i for i, s in enumerate(self.live.series) if s.key == key), None)
        if at is None:
            return None
        rows = (self.live.t_ns >= start_ns) & (self.live.t_ns <= min(end_ns, self.live.now_ns - 12 * NS))
        values = self.live.values[rows, at]
        low, high = values * 0.97, np.minimum(values * 1.03, np.maximum(values, 1.0))
        return Curve(self.live.series[at], self.live.t_ns[rows], low, values, high)

    def alerts(self, firing_only: bool = False, limit: int = 500) -> list[Alert]:
        found = [a for i in self.incidents_kept for a in i.alerts if a.state == "firing" or not firing_only]
        return found[:limit]

    def incidents(self, limit: int = 100, since_ns: int = 0) -> list[Incident]:
        return [i for i in self.incidents_kept if i.opened_ns >= since_ns][:limit]

    def incident(self, incident_id: str) -> Incident | None:
        return next((i for i in self.incidents_kept if i.id == incident_id), None)

    def reports(self, limit: int = 100, since_ns: int = 0) -> list[Report]:
        return [r for r in self.reports_kept if r.created_ns >= since_ns][:limit]

    def report(self, report_id: str) -> Report | None:
        return next((r for r in self.reports_kept if report_id in (r.id, r.incident_id)), None)

    def query(self, sql: str, max_rows: int = 10_000, timeout_s: float = 10.0) -> QueryResult:
        if not re.match(r"\s*select\b", sql, re.IGNORECASE):
            raise ValueError("only one SELECT is allowed")
        with contextlib.closing(sqlite3.connect(":memory:")) as db:
            db.execute("create table alerts (name text, score real)")
            db.executemany("insert into alerts values (?, ?)", [(a.name, a.score) for a in self.alerts()])
            try:
                cursor = db.execute(sql)
            except sqlite3.Error as error:
                raise ValueError(str(error)) from error
            rows = cursor.fetchmany(max_rows)
            columns = tuple(c[0] for c in cursor.description)
        return QueryResult(columns, tuple(rows), len(rows) == max_rows)


def make_archive(live: SampleLive) -> SampleArchive:
    """One incident that fires and one of yesterday, newest first."""
    old, old_report = old_incident(live.now_ns)
    return SampleArchive(live, [make_incident(live.now_ns), old], [make_report(live.now_ns), old_report])


def render(report: Report, kind: str) -> str:
    """Stands in for the renderer of rca."""
    if kind == "markdown":
        return f"# {report.title}\n"
    title = report.title.replace("&", "&amp;").replace("<", "&lt;")
    return f"<article><h1>{title}</h1></article>"


@contextlib.contextmanager
def serving(archive: SampleArchive, lean: bool = False, **settings: object) -> Iterator[ApiServer]:
    """A real server on a free loopback port."""
    config = ApiConfig(**{"port": 0, **settings})
    server = ApiServer(create_app(archive, archive.live, config, render, lean=lean), config)
    server.start()
    try:
        yield server
    finally:
        server.stop()
