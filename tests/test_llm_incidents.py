"""Recorded incidents of every cause get a narrative: what the prompt shows can be said, and passes the verifier."""

import dataclasses
from pathlib import Path

import pytest

from collector.knobs import KnobReader
from etio.core.frame import NS
from etio.core.report import ModelNote
from rca.agent import explain
from rca.case import Case
from rca.llm import LlmConfig, assist
from rca.llm.ollama import Ollama
from rca.llm.prompt import brief
from tests import incident_builder as build
from tests.ollama_server import serving

pytestmark = pytest.mark.slow

NAMES = sorted(p.stem for p in build.INCIDENTS.glob("*.json"))


def report_of(name):
    spec = build.load(name)
    now = build.ONSET_NS + spec.get("fault_s", 12) * NS
    case = Case(build.incident_of(spec, now), now, "testhost")
    history = build.MemoryHistory(build.window_of(spec), build.events_of(spec))
    return explain(case, history, build.facts_of(spec), KnobReader(Path("/")), None)


@pytest.fixture(scope="module")
def chat():
    with serving() as server:
        yield Ollama(LlmConfig(endpoint=server.url))


@pytest.mark.parametrize("name", NAMES)
def test_a_narrative_that_the_evidence_carries(name, chat):
    report = report_of(name)
    told = assist(report, chat, 20)
    assert dataclasses.replace(told, model=report.model, narrative="", findings=report.findings) == report
    if report.findings:
        assert (told.model.mode, told.model.removed) == ("llm", ())
        assert told.narrative.count("[E") >= 1
    else:
        assert isinstance(told.model, ModelNote)
        assert "no finding" in told.model.fallback_reason
    assert len(brief(report).user) < 8000


@pytest.mark.parametrize("name", [n for n in NAMES if not n.endswith("_lookalike")])
def test_a_cause_comes_with_something_to_do(name):
    report = report_of(name)
    assert report.suggestions
    assert report.suggestions[0].cause == report.findings[0].cause
    assert len({s.card for s in report.suggestions}) == len(report.suggestions)
