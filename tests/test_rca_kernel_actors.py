"""What eBPF heavy hitters add to a report: who had the core, where requests wait, who was held back."""

import copy

import pytest

from etio.core.report import Report
from tests import incident_builder as build
from tests.test_rca_incidents import explain_spec

QUEUED, INSIDE = (f"block_{what}_requests{{device=vda,direction=write}}" for what in ("queued", "inflight"))


def changed(name: str, **series: object) -> dict:
    spec = copy.deepcopy(build.load(name))
    spec["series"] |= series
    return spec


def claims(report: Report) -> str:
    return "\n".join(e.claim for e in report.evidence)


@pytest.mark.parametrize(("queued", "inside", "said"), [
    (12.0, 4.0, "75 % in the queue and 25 % at the device; more is asked of it than it takes"),
    (0.1, 9.9, "1 % in the queue and 99 % at the device; they hardly wait for their turn"),
    (3.0, 7.0, "30 % in the queue and 70 % at the device; some of it waiting for their turn"),
])
def test_where_requests_spend_their_time_tells_too_much_from_too_slow(queued, inside, said):
    steady = {"calm": 0.0, "noise": 0}
    spec = changed("disk_saturation", **{QUEUED: {**steady, "fault": queued}, INSIDE: {**steady, "fault": inside}})
    report = explain_spec(spec)
    assert said in report.summary


def test_nothing_is_said_where_requests_were_not_followed():
    spec = build.load("disk_saturation")
    for key in (QUEUED, INSIDE):
        spec["series"].pop(key)
    assert "at the device;" not in explain_spec(spec).summary


def test_who_had_the_core_that_others_waited_for():
    spec = changed("runqueue_contention", sched_involuntary_switches_per_second=[40, 900])
    spec["actors"] = [
        {"kind": "cpu_hold", "name": "python3", "pid": 4300, "count": 900, "amount": 18.0, "unit": "seconds"},
        {"kind": "run_delay", "name": "sshd", "pid": 700, "count": 90, "amount": 3.0, "unit": "seconds"},
        {"kind": "cpu_hold", "name": "journald", "pid": 300, "count": 90, "amount": 2.0, "unit": "seconds"},
        {"kind": "cpu_hold", "name": "python", "pid": 950, "count": 90, "amount": 80.0, "unit": "seconds"}]
    report = explain_spec(spec)
    assert "it was taken by: python3 (pid 4300) with 65 threads" in report.summary
    assert "90 %, journald" in report.summary  # etio itself is not counted
    assert "waited longest: sshd (pid 700) in ssh.service" in report.summary
    assert "lost its core" in claims(report)


def test_a_disk_that_is_saturated_explains_writers_that_are_held_back():
    spec = changed("disk_saturation", dirty_throttle_seconds_per_second=[0.0, 1.8],
                   dirty_throttle_pauses_per_second=[0.0, 40.0])
    spec["alerts"].append({"name": "WritersHeldBack", "series": "dirty_throttle_seconds_per_second", "lag": 4})
    report = explain_spec(spec)
    assert [f.cause for f in report.findings][:1] == ["disk_saturation"]
    assert any("held back" in one for one in report.follows)


def test_without_process_tables_who_was_held_back_is_named():
    spec = build.load("dirty_throttling")
    spec["processes"] = []
    report = explain_spec(spec)
    assert report.findings[0].cause == "dirty_throttling"
    assert report.culprit is not None
    assert (report.culprit.name, report.culprit.pid) == ("tar", 4800)


def test_a_name_from_the_kernel_is_shown_and_no_more():
    spec = build.load("dirty_throttling")
    spec["processes"] = []
    spec["actors"][0]["name"] = "{claim}\x1b[31m"
    report = explain_spec(spec)
    assert "\x1b" not in report.title + report.summary + claims(report)
