"""Probes, status and /metrics. Answered from memory in the event loop, so that a busy archive cannot delay them."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from api.context import Context
from api.metrics import MEDIA_TYPE
from api.replies import TEXT, json_reply
from api.routing import Routes
from etio.core.frame import Frame
from etio.core.status import Status

router = Routes()
PROBE = ("GET", "HEAD")


@router.on("/healthz", *PROBE)
async def healthz(request: Request, ctx: Context) -> Response:
    """200 while the process answers; the body tells the state of each part (to callers that may know)."""
    if not _trusted(request):
        return json_reply({"status": "ok"})
    status = ctx.live.status()
    parts = {c.name: {"state": c.state, "reason": c.reason, "remedy": c.remedy} for c in status.collectors}
    return json_reply({"status": "ok" if status.ready else "degraded", "version": status.version, "tier": status.tier,
                       "ready": status.ready, "collectors": parts, "model": status.model})


@router.on("/readyz", *PROBE)
async def readyz(request: Request, ctx: Context) -> Response:
    """200 when frames arrive, 503 and the reasons while blind."""
    status = ctx.live.status()
    body: dict[str, Any] = {"ready": status.ready, "tier": status.tier}
    if _trusted(request):
        body |= {"tier_reason": status.tier_reason, "reasons": status.reasons, "warming": status.warming,
                 "warm_ratio": status.warm_ratio}
    return json_reply(body, 200 if status.ready else 503)


@router.on("/-/healthy", *PROBE)
async def healthy() -> Response:
    """The same question as Prometheus servers are asked it."""
    return Response("etio is healthy.\n", media_type=TEXT)


@router.on("/-/ready", *PROBE)
async def ready(ctx: Context) -> Response:
    """The same question as Prometheus servers are asked it."""
    if ctx.live.status().ready:
        return Response("etio is ready.\n", media_type=TEXT)
    return Response("etio is not ready; see /readyz.\n", 503, media_type=TEXT)


@router.get("/metrics")
async def metrics(ctx: Context) -> Response:
    """Every current series and the daemon's own figures, Prometheus text 0.0.4."""
    status = ctx.live.status()
    return Response(ctx.exposition.text(status, fresh_frame(ctx, status)), media_type=MEDIA_TYPE)


@router.get("/api/v1/status")
async def whole_status(ctx: Context) -> Response:
    """The daemon now (etio.core.status.Status)."""
    return json_reply(ctx.live.status())


def fresh_frame(ctx: Context, status: Status) -> Frame | None:
    """The newest frame, or None when it is too old to be called current."""
    latest = ctx.live.latest()
    if latest is None or status.now_ns - latest[0].t_ns > ctx.config.stale_s * 1e9:
        return None
    return latest[0]


def _trusted(request: Request) -> bool:
    return bool(request.scope.get("etio.trusted"))
