"""Every recorded incident gets its cause and culprit; every healthy look-alike does not."""

import re

import pytest

from etio.core.codec import dumps, loads
from etio.core.frame import NS
from etio.core.report import Report
from rca.agent import explain
from rca.case import Case
from rca.discover import causes
from tests import incident_builder as build

NAMES = sorted(p.stem for p in build.INCIDENTS.glob("*.json"))


def report_of(name: str) -> tuple[Report, dict]:
    spec = build.load(name)
    return explain_spec(spec), spec.get("expect", {})


def explain_spec(spec: dict) -> Report:
    now = build.ONSET_NS + spec.get("fault_s", 12) * NS
    case = Case(build.incident_of(spec, now), now, "testhost")
    history = build.MemoryHistory(build.window_of(spec), build.events_of(spec))
    return explain(case, history, build.facts_of(spec), build.NoKnobs(), None)


@pytest.mark.parametrize("name", NAMES)
def test_cause_culprit_and_verdict_are_as_recorded(name: str) -> None:
    report, expect = report_of(name)
    found = [f.cause for f in report.findings if f.verdict != "INCONCLUSIVE"]
    assert found[:1] == ([expect["cause"]] if "cause" in expect else []), report.summary
    assert not set(found) & set(expect.get("not", ()))
    assert report.verdict == expect.get("verdict", report.verdict)
    if "culprit" in expect:
        assert report.culprit is not None
        assert report.culprit.name == expect["culprit"]
        assert report.culprit.pid == expect.get("pid", report.culprit.pid)
    for word in expect.get("follows", ()):
        assert any(word in f for f in report.follows), report.follows


@pytest.mark.parametrize("name", NAMES)
def test_report_holds_together(name: str) -> None:
    report, _ = report_of(name)
    ids = {e.id for e in report.evidence}
    cited = set(re.findall(r"\[(E\d+)\]", report.summary + "".join(f.explanation for f in report.findings)))
    used = {i for f in report.findings for i in (*f.supports, *f.refutes)}
    used |= {i for r in report.ruled_out for i in r.evidence}
    assert cited | used <= ids
    assert len(ids) == len(report.evidence) <= 12
    assert report.title
    assert report.summary
    assert "nan" not in (report.title + report.summary).lower().split()
    assert loads(Report, dumps(report)).title == report.title


@pytest.mark.parametrize("cause", [c.id for c in causes()])
def test_every_cause_has_an_incident_and_a_lookalike(cause: str) -> None:
    assert build.load(cause)["expect"]["cause"] == cause
    assert cause in build.load(f"{cause}_lookalike")["expect"]["not"]
