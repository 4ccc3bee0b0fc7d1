"""Alerts, incidents and reports: what was kept."""

from html import escape
from typing import Annotated, Any, Literal

from starlette.requests import Request
from starlette.responses import Response

from api.context import Context
from api.replies import JSON, Problem, json_reply, wanted_type
from api.routing import Bounds, Routes
from api.times import parse_time
from etio.core.alert import Alert, Incident
from etio.core.codec import to_plain
from etio.core.policy import by_model, model_of
from etio.core.report import Report

router = Routes("/api/v1")
Limit = Annotated[int, Bounds(1, 1000)]
Format = Literal["json", "markdown", "html"]
HEAD = ("id", "incident_id", "host", "created_ns", "since_ns", "title", "verdict", "severity", "summary", "culprit")
FORMATS: dict[str, Format] = {JSON: "json", "text/html": "html", "text/markdown": "markdown"}


@router.get("/alerts")
def alerts(ctx: Context, state: Literal["firing", "all"] = "all", limit: Limit = 500) -> Response:
    """Latest state of each alert, newest first."""
    found = ctx.archive.alerts(firing_only=state == "firing", limit=limit)
    return json_reply({"alerts": [plain_alert(a) for a in found]})


@router.get("/incidents")
def incidents(ctx: Context, since: str = "0", limit: Limit = 100) -> Response:
    """Newest first, each with the head of its newest report."""
    found = ctx.archive.incidents(limit=limit, since_ns=moment(ctx, since))
    oldest = min((i.onset_ns for i in found), default=0)
    heads = {r.incident_id: r for r in reversed(ctx.archive.reports(limit=2 * limit, since_ns=oldest))} if found else {}
    return json_reply({"incidents": [plain_incident(i, heads.get(i.id)) for i in found]})


@router.get("/incidents/{incident_id}")
def incident(ctx: Context, incident_id: str) -> Response:
    """One incident with all its alerts. Raises Problem 404."""
    found = ctx.archive.incident(incident_id)
    if found is None:
        raise Problem(404, f"no incident {incident_id[:60]!r}", "GET /api/v1/incidents lists those that are kept")
    return json_reply(plain_incident(found, ctx.archive.report(incident_id)))


@router.get("/reports")
def reports(ctx: Context, since: str = "0", limit: Limit = 100) -> Response:
    """Heads of the reports, newest first."""
    found = ctx.archive.reports(limit=limit, since_ns=moment(ctx, since))
    return json_reply({"reports": [head(r) for r in found]})


@router.get("/reports/{report_id}")
def report(request: Request, ctx: Context, report_id: str, format: Format | None = None) -> Response:
    """One report by its id, or the newest of an incident by the incident's id; JSON, Markdown or HTML.

    Raises Problem 404.
    """
    found = ctx.archive.report(report_id)
    if found is None:
        raise Problem(404, f"no report {report_id[:60]!r}", "GET /api/v1/reports lists those that are kept")
    chosen = format or FORMATS[wanted_type(request, tuple(FORMATS))]
    if chosen == "json":
        return json_reply(found)
    if chosen == "markdown":
        return Response(ctx.render(found, "markdown"), media_type="text/markdown; charset=utf-8")
    return Response(whole_page(found.title, ctx.render(found, "html")), media_type="text/html; charset=utf-8")


def moment(ctx: Context, text: str) -> int:
    """A time of the query string. Raises Problem 400 when it is none."""
    try:
        return parse_time(text, ctx.live.status().now_ns)
    except ValueError as error:
        raise Problem(400, str(error), "see the forms named above") from error


def plain_alert(alert: Alert) -> dict[str, Any]:
    """An alert as JSON, labels as an object."""
    return {**to_plain(alert), "labels": dict(alert.labels), "entity": alert.entity, "model": model_of(alert.name)}


def plain_incident(found: Incident, latest: Report | None) -> dict[str, Any]:
    """An incident as JSON, with severity, onset and the head of its report (None without one)."""
    return {
        "id": found.id, "opened_ns": found.opened_ns, "onset_ns": found.onset_ns, "resolved_ns": found.resolved_ns,
        "severity": found.severity, "report_state": found.report, "models": list(by_model(found.alerts)),
        "alerts": [plain_alert(a) for a in found.alerts],
        "report": head(latest) if latest is not None else None,
    }


def head(found: Report) -> dict[str, Any]:
    """What a list shows of a report."""
    plain = {name: to_plain(getattr(found, name)) for name in HEAD}
    return {**plain, "causes": [f.cause for f in found.findings]}


def whole_page(title: str, fragment: str) -> str:
    """A page of its own around a rendered report."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="stylesheet" href="/static/style.css"></head>\n'
        f'<body class="document"><main>{fragment}</main></body></html>\n'
    )
