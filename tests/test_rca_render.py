"""Markdown and HTML of a report, the table of causes, and a model that takes part."""

import re
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etio.core.codec import dumps, loads
from etio.core.errors import ModelError
from etio.core.frame import NS
from etio.core.ports import Answer
from etio.core.report import ModelNote, Report, Suggestion
from rca import escape
from rca.agent import explain
from rca.case import Case, RcaConfig
from rca.discover import causes, table
from rca.render import html, markdown_report
from tests import incident_builder as build


def make(name: str = "cpu_saturation", chat: Any = None) -> Report:
    spec = build.load(name)
    now = build.ONSET_NS + spec.get("fault_s", 12) * NS
    case = Case(build.incident_of(spec, now), now, "testhost")
    history = build.MemoryHistory(build.window_of(spec), build.events_of(spec))
    return explain(case, history, build.facts_of(spec), build.NoKnobs(), chat)


class Tags(HTMLParser):
    """Collects tags and checks that they are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.open.append(tag)
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_tired_reader_finds_the_answer_in_the_first_lines() -> None:
    lines = markdown_report(make()).splitlines()
    assert lines[0] == "# stress-ng keeps both CPUs busy"
    assert lines[2].startswith("**CONFIRMED** · incident 2025-11-21-0001 · since ")
    assert "stress-ng, 9 processes, started by bash (pid 810)" in lines[4]
    assert "[E1]" in lines[4]


def test_every_section_is_there() -> None:
    text = markdown_report(make("fork_storm"))
    for word in ("| E1 |", "**What changed before**", "**Ruled out**", "**Follows from it, not causes**",
                 "## What to do", "<details>", "Tier T1 (eBPF)", "etio itself: 0.4 % of one core, 131 MB"):
        assert word in text, word


def test_an_inconclusive_report_says_so_first_and_what_would_settle_it() -> None:
    text = markdown_report(make("disk_saturation_lookalike"))
    assert "**INCONCLUSIVE**" in text.splitlines()[2]
    assert "## What would settle it" in text
    assert "## What to do" not in text


@pytest.mark.parametrize("name", ["cpu_saturation", "memory_pressure", "disk_full", "cpu_saturation_lookalike"])
def test_html_is_well_formed_and_without_scripts(name: str) -> None:
    tags = Tags()
    tags.feed(html(make(name)))
    assert tags.open == []
    assert not {"script", "style", "a", "img", "iframe"} & set(tags.seen)


def test_a_report_survives_json() -> None:
    report = make("oom_kill")
    assert dumps(loads(Report, dumps(report))) == dumps(report)


@given(st.text(max_size=200))
def test_no_text_leaves_its_place(text: str) -> None:
    line = escape.markdown(text)
    assert "\n" not in line
    assert "<" not in line
    assert not re.search(r"(?<!\\)\]\(", line)
    assert "<" not in escape.markup(text)
    assert '"' not in escape.markup(text)
    span = escape.code(text)
    fence = re.match(r"`+", span)
    assert fence is not None
    assert span.count(fence[0]) == 2 or fence[0] not in span[len(fence[0]):-len(fence[0])]


def test_commands_of_several_lines_keep_them() -> None:
    one = Suggestion("c", "Title", "vm.x", "60", "10", "why", "effect", "low", "note", "first\nsecond ```", "back",
                     "verify", "docs", build.ONSET_NS)
    report = replace(make(), suggestions=(one,))
    text, page = markdown_report(report), html(report)
    assert "````" in text
    assert "first\nsecond" in page


def test_the_model_part_is_told() -> None:
    note = ModelNote("llm", "qwen3:8b", "http://127.0.0.1:11434", 22.0, 3112, 418, removed=("x doubled",))
    text = markdown_report(replace(make(), model=note, narrative="It was stress-ng [E4]."))
    assert "> It was stress-ng [E4]." in text
    assert "3,112 + 418 tokens" in text
    assert "The verifier removed: x doubled" in text


class DownModel:
    """A chat model that cannot be reached."""

    name = "down"
    endpoint = "http://127.0.0.1:1"

    def ask(self, system: str, user: str, schema: Mapping[str, Any], deadline_s: float) -> Answer:
        raise ModelError("connection refused")


def test_a_model_that_is_down_costs_nothing_but_a_note() -> None:
    without, down = make(), make(chat=DownModel())
    assert replace(down, model=without.model) == without or dumps(replace(down, model=without.model)) == dumps(without)
    assert "connection refused" in down.model.fallback_reason


def test_the_table_of_causes_is_complete_and_in_plain_words() -> None:
    rows = table()
    assert len(rows) == len(causes()) >= 19
    for identifier, title, mechanism, source in rows:
        assert re.fullmatch(r"[a-z_]+", identifier)
        assert title
        assert mechanism.endswith(".")
        assert mechanism.count(". ") == 0, "one sentence"
        assert source


def test_the_graph_of_causes_names_causes_and_has_no_cycle() -> None:
    edges = {c.id: set(c.explains) for c in causes()}
    assert all(target in edges for targets in edges.values() for target in targets)

    def reach(start: str, seen: frozenset[str]) -> None:
        assert start not in seen, f"cycle through {start}"
        for target in edges[start]:
            reach(target, seen | {start})

    for cause in edges:
        reach(cause, frozenset())


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="durations"):
        RcaConfig(baseline_s=0)
    with pytest.raises(ValueError, match="max_evidence"):
        RcaConfig(max_evidence=1)
