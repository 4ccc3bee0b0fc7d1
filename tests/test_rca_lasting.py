"""A report that is made when its trouble is over, but its alerts are not resolved yet, speaks of the trouble."""

import dataclasses
from typing import Any

import pytest

from etio.core.frame import NS
from etio.core.ports import Window
from etio.core.report import Report
from rca.agent import explain
from rca.case import Case
from rca.lasting import until_ns
from rca.units import clock
from tests import incident_builder as build

LASTED = 10
"""Seconds of fault."""


def scene_of(name: str, after: int) -> tuple[Case, Window, dict[str, Any]]:
    """A recorded incident whose series are calm again `after` seconds before the report, and its processes gone."""
    spec = {**build.load(name), "fault_s": LASTED + after}
    for one in spec["processes"]:
        if one.get("from", -80_000) > -60:
            one["to"] = LASTED
    spec["tables"] = [-30, -1, *range(1, LASTED + after + 1)]
    window = build.window_of(spec)
    values = window.values.copy()
    late = window.t_ns > build.ONSET_NS + LASTED * NS
    values[late] = values[: late.sum()]  # what there was not before is gone again
    for alert in spec["alerts"]:
        at = [s.key for s in window.series].index(build.series_of(alert["series"]).key)
        alert["value"] = float(values[~late][-1, at])
    now_ns = build.ONSET_NS + (LASTED + after) * NS
    case = Case(build.incident_of(spec, now_ns), now_ns, "testhost")
    return case, dataclasses.replace(window, values=values), spec


def report_of(name: str, after: int) -> Report:
    case, window, spec = scene_of(name, after)
    history = build.MemoryHistory(window, build.events_of(spec))
    return explain(case, history, build.facts_of(spec), build.NoKnobs())


@pytest.mark.parametrize("name", ["cpu_saturation", "context_switch_storm", "disk_saturation", "memory_pressure"])
def test_a_late_report_names_the_cause_and_culprit_of_the_time_it_lasted(name: str) -> None:
    report = report_of(name, after=9)
    expect = build.load(name)["expect"]
    assert report.findings[0].cause == name, report.summary
    assert report.verdict != "INCONCLUSIVE"
    assert report.culprit is not None
    assert report.culprit.name == expect["culprit"]
    assert f"last seen at {clock(build.ONSET_NS + LASTED * NS)}" in report.summary


def test_what_lasts_is_not_called_over() -> None:
    for after in (0, 1, 2):
        assert "last seen at" not in report_of("cpu_saturation", after).summary


def test_an_event_or_a_series_without_calm_time_is_not_called_over() -> None:
    case, window, _ = scene_of("cpu_saturation", 9)
    assert until_ns(window, case) == build.ONSET_NS + LASTED * NS
    assert until_ns(dataclasses.replace(window, t_ns=window.t_ns[-20:], values=window.values[-20:]), case) == 0
    bare = tuple(dataclasses.replace(a, series_key="") for a in case.incident.alerts)
    assert until_ns(window, dataclasses.replace(case, incident=dataclasses.replace(case.incident, alerts=bare))) == 0
