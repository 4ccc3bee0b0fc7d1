"""A report as an HTML fragment. Every piece of text goes through one function that escapes it."""

from collections.abc import Iterable

from etio.core.frame import NS
from etio.core.report import Moment, Report, Suggestion
from rca import render_parts as parts
from rca.escape import markup, markup_block
from rca.units import clock, duration


def html(report: Report) -> str:
    """An <article> without styles or scripts; class names say what is what."""
    body = [
        f"<h1>{markup(report.title)}</h1>", _headline(report), f"<p class=\"summary\">{markup(report.summary)}</p>",
        _narrative(report), _evidence(report), _moments("What changed before", "changes", report.changes),
        _list("Ruled out", "ruled-out", (f"{r.title}: {r.reason}" for r in report.ruled_out)),
        _list("Follows from it, not causes", "follows", report.follows), _suggestions(report.suggestions),
        _list("What would settle it", "next-steps", report.next_steps), _details(report),
    ]
    inside = "\n".join(part for part in body if part)
    return f'<article class="report verdict-{report.verdict.lower()}">{inside}</article>\n'


def _headline(report: Report) -> str:
    lasted = duration(max(report.created_ns - report.since_ns, 0) / NS)
    return (f'<p class="headline"><strong>{report.verdict}</strong> · incident {markup(report.incident_id)} · since '
            f"{clock(report.since_ns)} UTC ({lasted}) · host {markup(report.host)} · severity {report.severity}"
            f"{' · seen by the ' if report.seen_by else ''}{markup('; '.join(report.seen_by))}</p>")


def _narrative(report: Report) -> str:
    if not report.narrative:
        return ""
    return (f'<blockquote class="narrative">{markup(report.narrative)}<footer>worded by {markup(report.model.name)}, '
            "checked against the evidence</footer></blockquote>")


def _evidence(report: Report) -> str:
    rows = "\n".join(
        f'<tr id="{markup(e.id)}" class="{e.kind}"><td>{markup(e.id)}</td><td>{markup(parts.what(e))}</td>'
        f"<td>{markup(parts.calm(e))}</td><td>{markup(parts.now(e))}</td><td>{clock(e.onset_ns)}</td>"
        f"<td>{markup(parts.how(e))}</td></tr>" for e in report.evidence)
    head = "".join(f"<th>{h}</th>" for h in ("", "evidence", "calm", "now", "since", "how it was measured"))
    return f'<table class="evidence"><thead><tr>{head}</tr></thead><tbody>\n{rows}</tbody></table>' if rows else ""


def _list(title: str, css: str, items: Iterable[str]) -> str:
    lines = "".join(f"<li>{markup(i)}</li>" for i in items)
    return f'<section class="{css}"><h2>{title}</h2><ul>{lines}</ul></section>' if lines else ""


def _moments(title: str, css: str, moments: Iterable[Moment]) -> str:
    return _list(title, css, (f"{clock(m.t_ns)} {m.text}" for m in moments))


def _suggestions(suggestions: Iterable[Suggestion]) -> str:
    told = "".join(_suggestion(s) for s in suggestions)
    return f'<section class="suggestions"><h2>What to do</h2><ol>{told}</ol></section>' if told else ""


def _suggestion(one: Suggestion) -> str:
    value = f"{one.current} now (read {clock(one.read_ns)})" if one.current else one.current_note
    change = f"; proposed {one.proposed}" if one.proposed else ""
    commands = "".join(f"<dt>{label}</dt><dd><pre>{markup_block(text)}</pre></dd>" for label, text in
                       (("apply", one.apply), ("back", one.rollback), ("verify", one.verify)) if text)
    note = f", {one.risk_note}" if one.risk_note else ""
    return (f"<li><strong>{markup(one.title)}</strong> {markup(one.why)}<p><code>{markup(one.knob)}</code>: "
            f"{markup(value + change)}</p><dl>{commands}<dt>expect</dt><dd>{markup(one.effect)}</dd><dt>risk</dt>"
            f"<dd>{markup(one.risk + note)}</dd><dt>source</dt><dd>{markup(one.source)}</dd></dl></li>")


def _details(report: Report) -> str:
    lines = "".join(f"<li>{clock(m.t_ns)} {markup(m.text)}</li>" for m in report.timeline)
    told = "".join(f"<p>{markup(n)}</p>" for n in parts.notes(report))
    return (f'<details class="details"><summary>Timeline, data quality, model, cost</summary><ol>{lines}</ol>{told}'
            "</details>")
