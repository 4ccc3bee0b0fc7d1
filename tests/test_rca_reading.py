"""What a tired reader must find in a report, and what must not be there."""

import copy

import pytest

from etio.core.errors import NoData
from etio.core.event import HostEvent
from etio.core.frame import NS
from etio.core.report import Report
from rca.agent import explain
from rca.case import Case
from rca.render import markdown_report
from tests import incident_builder as build


class Host:
    """A host with these settings and no others."""

    def __init__(self, **values: str) -> None:
        self._values = values

    def read(self, kind: str, key: str, entity: str = "") -> str:
        if key not in self._values:
            raise NoData(f"{kind} {key}: none on this host")
        return self._values[key]


def report_of(spec: dict, *events: HostEvent, knobs: Host | None = None) -> Report:
    now = build.ONSET_NS + spec.get("fault_s", 12) * NS
    case = Case(build.incident_of(spec, now), now, "testhost")
    history = build.MemoryHistory(build.window_of(spec), (*build.events_of(spec), *events))
    return explain(case, history, build.facts_of(spec), knobs or Host(), None)


def spec_of(name: str, **series: object) -> dict:
    spec = copy.deepcopy(build.load(name))
    spec["series"] |= series
    return spec


def test_etio_itself_is_no_part_of_the_story() -> None:
    at = build.ONSET_NS - 20 * NS
    failed = HostEvent(at, "collector_failed", "collector=nvml", (("reason", "it hung"),), "etio")
    absent = HostEvent(at, "collector_nodata", "collector=schedstat", (("reason", "no such file"),), "etio")
    report = report_of(spec_of("cpu_saturation"), failed, absent)
    assert not any("collector" in m.text for m in (*report.changes, *report.timeline))
    assert [m for m in report.data_quality.missing if "collector" in m] == ["collector nvml failed: it hung"]


def test_no_swap_traffic_no_swap_card() -> None:
    knobs = Host(**{"vm.swappiness": "60", "memory_limit": "96 MiB"})
    report = report_of(spec_of("memory_pressure"), knobs=knobs)
    assert report.suggestions
    assert "vm-swappiness" not in [s.card for s in report.suggestions]
    swap = spec_of("swap_thrashing")
    assert "vm-swappiness" in [s.card for s in report_of(swap, knobs=knobs).suggestions]


@pytest.mark.parametrize(("used", "proposed"), [(0.5, "1.20 cores"), (0.1, "1.20 cores")])
def test_the_quota_covers_what_was_used_and_what_was_held_back(used: float, proposed: str) -> None:
    """Also in the first seconds, when the use of a new group is still that of a group that has just begun."""
    key = "{cgroup=/etio-drill}"
    spec = spec_of("cgroup_cpu_throttling", **{
        f"cgroup_cpu_usage_cores{key}": {"calm": None, "fault": used, "noise": 0},
        f"cgroup_cpu_throttled_seconds_per_second{key}": {"calm": None, "fault": 0.5, "noise": 0}})
    spec["cgroups"] = [{"path": "/etio-drill", "quota_cores": 0.5}]
    report = report_of(spec, knobs=Host(cpu_quota="0.50 cores (cpu.cfs_quota_us=50000, cpu.cfs_period_us=100000)"))
    assert [s.proposed for s in report.suggestions if s.card == "cgroup-cpu-quota"] == [proposed]


def test_a_group_that_began_with_the_fault_is_new_and_not_unknown() -> None:
    report = report_of(spec_of("cgroup_cpu_throttling"))
    row = next(line for line in markdown_report(report).splitlines() if line.startswith("| E1 "))
    assert "| new |" in row
    assert next(e for e in report.evidence if e.id == "E1").coverage > 0.9


def test_rates_are_words_in_sentences_and_the_group_is_named() -> None:
    report = report_of(spec_of("memory_pressure"))
    assert "/s " not in report.summary
    assert "It runs into" not in report.summary


def test_the_busiest_disk_is_the_one_that_is_ruled_out() -> None:
    spec = spec_of("cpu_saturation", **{
        "disk_busy_ratio{device=loop0}": 0.02, "disk_busy_ratio{device=vda}": 0.4,
        "disk_queue_length{device=loop0}": 0})
    reason = next(r.reason for r in report_of(spec).ruled_out if r.cause == "disk_saturation")
    assert "(vda)" in reason
    idle = spec_of("cpu_saturation", **{f"disk_busy_ratio{{device={d}}}": 0 for d in ("loop0", "vda")})
    assert "(vda)" in next(r.reason for r in report_of(idle).ruled_out if r.cause == "disk_saturation")


def test_who_suffers_is_told() -> None:
    spec = spec_of("cpu_saturation")
    spec["processes"].append({"pid": 7100, "comm": "frontend", "unit": "web.service", "cgroup": "/system.slice/web",
                              "cpu": 0.05, "run_delay": 0.3})
    assert "Others wait for a CPU as well: frontend (pid 7100) in web.service" in report_of(spec).summary


def test_two_faults_are_both_told() -> None:
    full = build.load("disk_full")
    spec = spec_of("cpu_saturation", **{k: v for k, v in full["series"].items() if k.startswith("filesystem_")})
    spec["alerts"] += full["alerts"]
    report = report_of(spec)
    found = [f.cause for f in report.findings if f.verdict != "INCONCLUSIVE"]
    assert found == ["disk_full", "cpu_saturation"]
    assert "Besides, and not explained by it" in report.summary
    pending = report_of({**spec, "alerts": full["alerts"]})
    assert pending.findings[0].cause == "disk_full"
    assert "At the same time, without an alert so far" in pending.summary


@pytest.mark.parametrize(("name", "calm"), [("cpu_saturation", 20), ("cgroup_cpu_throttling", 20), ("disk_full", 20),
                                            ("memory_pressure", 20), ("oom_kill", 20), ("disk_saturation", 20)])
def test_a_fresh_daemon_is_right_one_second_after_the_alert(name: str, calm: int) -> None:
    report = report_of({**build.load(name), "calm_s": calm, "fault_s": 5, "tables": [-calm, 4]})
    assert report.findings[0].cause == name
    assert report.verdict in ("CONFIRMED", "LIKELY")


def test_what_no_cause_explains_comes_with_something_to_begin_with() -> None:
    spec = spec_of("cpu_saturation_lookalike", pressure_cpu_some_ratio=0.01, cpu_busy_ratio=0.1,
                   tcp_resets_received_per_second={"calm": 0, "fault": 60, "noise": 0},
                   memory_slab_bytes={"calm": 2e8, "fault": 2e9, "noise": 0, "lag": 3})
    spec["alerts"] = [{"name": "SeriesAnomaly", "series": "tcp_resets_received_per_second", "lag": 1}]
    report = report_of(spec)
    assert report.verdict == "INCONCLUSIVE"
    assert "The alert speaks of: " in report.summary
    assert "First to move, at" in report.summary
    assert any(step.startswith("network: ") for step in report.next_steps)


def test_an_image_that_was_always_read_only_is_never_mentioned() -> None:
    spec = spec_of("disk_full", **{"filesystem_readonly{mount=/snap/core}": {"calm": 1, "fault": 1, "noise": 0}})
    for calm in (600, 5):
        report = report_of({**spec, "calm_s": calm})
        assert report.findings[0].cause == "disk_full"
        assert "read-only" not in report.summary
