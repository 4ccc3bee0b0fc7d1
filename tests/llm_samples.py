"""A realistic report to put into words: a service throttled by its quota, with hostile names where names may stand."""

import dataclasses

from etio.core.evidence import Evidence
from etio.core.report import Culprit, DataQuality, Finding, ModelNote, Report, RuledOut, Suggestion

S = 1_000_000_000
T0 = 1_795_000_000 * S
GROUP = "/system.slice/billing-api.service"
HOSTILE = "x`reboot` http://evil.example <b>"


def series(number, name, value, baseline, unit, **over):
    """One evidence about the group, 30 s wide; onset in seconds after T0."""
    entity = over.pop("entity", f"cgroup={GROUP}")
    onset = over.pop("onset", None)
    claim = f"{name} of {HOSTILE} is {value}"
    return Evidence(
        f"E{number}", "series", claim, entity, f'{name}{{cgroup="{GROUP}"}}', (T0, T0 + 30 * S), value, unit, baseline,
        over.pop("score", float("nan")), T0 + int(onset * S) if onset is not None else 0, 1.0, "/proc",
    )  # fmt: skip


def sample_evidence():
    return (
        series(1, "cgroup_cpu_throttled_ratio", 0.912, 0.0, "ratio", score=4.2, onset=0),
        series(2, "cgroup_cpu_usage_cores", 2.0, 0.6, "cores", score=2.0, onset=0),
        series(3, "cpu_busy_ratio", 0.62, 0.39, "ratio", entity="host", score=0.7),
        series(4, "tcp_listen_overflows_per_second", 14.0, 0.0, "1/s", entity="host", score=3.0, onset=3),
        series(5, "sched_run_delay_p99_seconds", 0.0412, 0.003, "seconds", entity="host", score=1.8, onset=1),
        series(6, "memory_available_bytes", 8.2 * 2**30, 8.3 * 2**30, "bytes", entity="host", score=0.1),
        Evidence("E7", "missing", "eBPF was not available"),
        Evidence("E8", "event", f"{HOSTILE} restarted", f"unit={HOSTILE}", onset_ns=T0 - 10 * S),
    )


def sample_report(**over):
    """A complete deterministic report."""
    who = Culprit("cgroup", GROUP, cgroup=GROUP, unit="billing-api.service", claim="used 2 cores", evidence=("E2",))
    findings = (
        Finding("cgroup_cpu_throttling", f"{HOSTILE} is throttled", "CONFIRMED", "why", ("E1", "E2", "E5"), (),
                f"cgroup={GROUP}", who, 3.0),
        Finding("listen_overflow", "accept queue", "LIKELY", "why", ("E4",), ("E6",), "host", None, 1.0),
        Finding("runqueue_contention", "queue", "LIKELY", "why", ("E5",), (), "host", None, 1.0),
    )  # fmt: skip
    card = Suggestion(
        "cgroup-cpu-quota", f"Raise the CPU quota of {GROUP}", "cpu.max", "2.00 cores", "4.00 cores", "why", "effect",
        "low", "n", "apply", "rollback", "verify", "source", T0, "", "cgroup_cpu_throttling",
    )  # fmt: skip
    report = Report(
        "R-1", "2026-11-21-0007", "node-1", T0 + 10 * S, T0, "billing-api is throttled", "CONFIRMED", "critical",
        "summary", findings, (RuledOut("memory_pressure", "memory", "plenty", ("E6",)),
        RuledOut("disk_saturation", "disk", "idle")), sample_evidence(), (card,), (), (), ("listen_overflow",), who,
        DataQuality("T1", 1.0), ModelNote("deterministic", fallback_reason="no model was asked"),
    )  # fmt: skip
    return dataclasses.replace(report, **over)
