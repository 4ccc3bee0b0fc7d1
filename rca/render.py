"""A report as Markdown (for a terminal, a mail or a ticket) and as an HTML fragment (for the page)."""

from collections.abc import Iterable

from etio.core.evidence import Evidence
from etio.core.frame import NS
from etio.core.report import Report, RuledOut, Suggestion
from rca.escape import block, code, markdown
from rca.render_html import html
from rca.render_parts import calm, how, notes, now, what
from rca.units import clock, duration

__all__ = ["html", "markdown_report"]


def markdown_report(report: Report) -> str:
    """The whole report. Everything that came from outside is escaped."""
    parts = [
        f"# {markdown(report.title)}", headline(report), markdown(report.summary), _narrative(report),
        _evidence(report.evidence), _changes(report), _ruled_out(report.ruled_out), _follows(report),
        _suggestions(report.suggestions), _next_steps(report), _details(report),
    ]
    return "\n\n".join(p for p in parts if p) + "\n"


def headline(report: Report) -> str:
    """Verdict, incident, since when, host, severity in one line."""
    lasted = duration(max(report.created_ns - report.since_ns, 0) / NS)
    return (f"**{report.verdict}** · incident {markdown(report.incident_id)} · since {clock(report.since_ns)} UTC "
            f"({lasted}) · host {markdown(report.host)} · severity {report.severity}{_seen_by(report)}")


def _seen_by(report: Report) -> str:
    return f" · seen by the {'; '.join(map(markdown, report.seen_by))}" if report.seen_by else ""


def _narrative(report: Report) -> str:
    if not report.narrative:
        return ""
    by = f"worded by {markdown(report.model.name)}, checked against the evidence"
    return f"> {markdown(report.narrative)}\n>\n> ({by})"


def _evidence(evidence: Iterable[Evidence]) -> str:
    rows = [f"| {e.id} | {markdown(what(e))} | {calm(e)} | {now(e)} | {clock(e.onset_ns)} | {markdown(how(e))} |"
            for e in evidence]
    head = "| | evidence | calm | now | since | how it was measured |\n|---|---|---|---|---|---|"
    return "\n".join([head, *rows]) if rows else ""


def _changes(report: Report) -> str:
    if not report.changes:
        return "**What changed before**: nothing that etio saw."
    told = " · ".join(f"{clock(m.t_ns)} {markdown(m.text)}" for m in report.changes)
    return f"**What changed before**: {told}"


def _ruled_out(ruled_out: Iterable[RuledOut]) -> str:
    told = " · ".join(f"{markdown(r.title)} ({markdown(', '.join((r.reason, *r.evidence)))})" for r in ruled_out)
    return f"**Ruled out**: {told}" if told else ""


def _follows(report: Report) -> str:
    if not report.follows:
        return ""
    return "**Follows from it, not causes**: " + " · ".join(markdown(f) for f in report.follows)


def _suggestions(suggestions: Iterable[Suggestion]) -> str:
    told = [_suggestion(at, one) for at, one in enumerate(suggestions, 1)]
    return "## What to do\n\n" + "\n\n".join(told) if told else ""


def _suggestion(at: int, one: Suggestion) -> str:
    value = f"{code(one.current)} now (read {clock(one.read_ns)})" if one.current else markdown(one.current_note)
    change = f"; proposed {code(one.proposed)}" if one.proposed else ""
    lines = [f"{at}. **{markdown(one.title)}** - {markdown(one.why)}",
             f"   {code(one.knob)}: {value}{change}" if one.knob else ""]
    for label, text in (("apply", one.apply), ("back", one.rollback), ("verify", one.verify)):
        if text:
            shown = code(text) if "\n" not in text else "\n\n" + _indent(block(text)) + "\n"
            lines.append(f"   {label}: {shown}")
    note = f", {markdown(one.risk_note)}" if one.risk_note else ""
    lines.append(f"   expect: {markdown(one.effect)} · risk: {one.risk}{note} · source: {markdown(one.source)}")
    kept = [line for line in lines if line]
    return "\n".join(kept) if any("\n" in line for line in kept) else "\\\n".join(kept)


def _indent(text: str) -> str:
    return "\n".join("   " + line for line in text.splitlines())


def _next_steps(report: Report) -> str:
    if not report.next_steps:
        return ""
    return "## What would settle it\n\n" + "\n".join(f"- {markdown(s)}" for s in report.next_steps)


def _details(report: Report) -> str:
    events = " · ".join(f"{clock(m.t_ns)} {markdown(m.text)}" for m in report.timeline)
    lines = ["<details><summary>Timeline, data quality, model, cost</summary>", "", events, "",
             *(markdown(line) for line in notes(report)), "", "</details>"]
    return "\n".join(lines)
