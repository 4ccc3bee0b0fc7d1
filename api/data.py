"""Series, their data, people's SQL and the stream."""

from typing import Annotated, Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from api import curves
from api.context import Context
from api.records import moment
from api.replies import Problem, json_reply, plain_reply
from api.routing import Body, Bounds, Many, Routes
from api.stream import MAX_LISTENERS, status_line
from etio.core.codec import to_plain
from etio.core.ports import QueryResult

router = Routes("/api/v1")
MAX_KEYS = 16


@router.get("/series")
def series(ctx: Context, match: str = "") -> Response:
    """Every known series; match: words that must all occur in the key, in any case."""
    words = match.lower().split()
    found = [s for s in ctx.archive.series() if all(w in s.key.lower() for w in words)]
    return plain_reply({"series": [curves.plain_series(s) for s in sorted(found, key=lambda s: s.key)]})


@router.get("/series/data")
def data(
    ctx: Context,
    key: Annotated[list[str], Many(MAX_KEYS)],
    start: str = "-15m",
    end: str = "now",
    points: Annotated[int, Bounds(2, 5000)] = 600,
) -> Response:
    """Curves of the series named by `key` (may be repeated); `unknown` lists the keys without data.

    Raises Problem 400 for times in the wrong order, 404 where no key is known.
    """
    span = (moment(ctx, start), moment(ctx, end))
    if span[0] >= span[1]:
        raise Problem(400, "start is not before end", "swap them, or leave end out for now")
    found = {k: curves.curve(ctx.archive, ctx.live, k, span, points) for k in dict.fromkeys(key)}
    unknown = [k for k, curve in found.items() if curve is None]
    if len(unknown) == len(found):
        raise Problem(404, f"no series {', '.join(unknown)[:200]!r}", "GET /api/v1/series?match=... lists the keys")
    known = [curve for curve in found.values() if curve is not None]
    return plain_reply({"start_ns": span[0], "end_ns": span[1], "curves": known, "unknown": unknown})


@router.get("/now")
def now(ctx: Context, seconds: Annotated[int, Bounds(10, 600)] = 300) -> Response:
    """The last seconds of the key series, their expected ranges, and the head of the status."""
    status = ctx.live.status()
    start = status.now_ns - seconds * 1_000_000_000
    latest = ctx.live.latest()
    bands = {k: v[1:] for k, v in curves.current(*latest).items()} if latest else {}
    return plain_reply({**curves.now(ctx.live, start), "bands": bands, "status": to_plain(status_line(status))})


@router.get("/inference")
def inference(ctx: Context) -> Response:
    """Inference servers whose steps are known: [sequences, tokens in their KV caches, milliseconds] of each step."""
    found = [{"server": server, "model": model, "steps": rows.tolist()}
             for (server, model), rows in sorted(ctx.live.steps().items())]
    return plain_reply({"servers": found})


@router.post("/query")
async def query(ctx: Context, sql: Annotated[str, Body()]) -> Response:
    """One SELECT of a person: {"columns": [...], "rows": [[...]], "truncated": bool}."""
    if ctx.query_slots.locked():
        raise Problem(503, "other queries are still running", "try again in a few seconds")
    async with ctx.query_slots:
        try:
            result = await run_in_threadpool(_run, ctx, sql)
        except ValueError as error:
            hint = "one SELECT over samples, series, alerts, incidents, reports or events"
            raise Problem(400, str(error), hint) from error
    rows = [[_cell(v) for v in row] for row in result.rows]
    return json_reply({"columns": result.columns, "rows": rows, "truncated": result.truncated})


def _run(ctx: Context, sql: str) -> QueryResult:
    return ctx.archive.query(sql, ctx.config.max_query_rows, ctx.config.query_timeout_s)


def _cell(value: Any) -> Any:
    """Numbers, text and lists as they are; anything else (dates, decimals, bytes) as text."""
    if value is None or isinstance(value, (str, int, float, bool, list, tuple, dict)):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


@router.get("/stream")
async def stream(ctx: Context) -> Response:
    """Server-sent events: "tick" each second with the key values and the head of the status."""
    if ctx.hub.listeners >= MAX_LISTENERS:
        raise Problem(503, "too many open streams", "close some pages, or ask /api/v1/now from time to time")
    return StreamingResponse(ctx.hub.events(), media_type="text/event-stream")
