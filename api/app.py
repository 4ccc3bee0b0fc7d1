"""The HTTP application. Knows the archive and the running daemon only as roles (etio.core.ports)."""

from collections.abc import Mapping

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from api import data, health, pages, records
from api.config import ApiConfig, read_token
from api.context import Context, Render
from api.guard import Guard
from api.metrics import Exposition
from api.replies import Problem, problem
from api.stream import Hub
from etio.core.errors import EtioError
from etio.core.ports import Archive, Live

__all__ = ["ApiConfig", "create_app"]


def create_app(
    archive: Archive, live: Live, config: ApiConfig, render: Render, help_texts: Mapping[str, str] | None = None
) -> FastAPI:
    """The application.

    render(report, "markdown" | "html"): text of a report; "html" is a fragment without scripts.
    help_texts: series name to one sentence, for HELP in /metrics.
    `app.state.etio.hub.changed()` tells open pages at once that an incident or report changed.
    Raises ConfigError when the token file cannot be read.
    """
    app = FastAPI(title="etio", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.etio = Context(archive, live, config, render, Exposition(help_texts), Hub(archive, live))
    app.add_middleware(Guard, config=config, token=read_token(config.token, config.token_file))
    for router in (health.router, records.router, data.router, pages.router):
        app.include_router(router)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _bad_request)
    app.add_exception_handler(EtioError, _own_error)
    app.add_exception_handler(500, _bug)
    return app


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    remedy = error.remedy if isinstance(error, Problem) else {404: "GET / is the page; /api/v1/status the status",
                                                              405: "use another method"}.get(error.status_code, "")
    return problem(error.status_code, str(error.detail), remedy)


async def _bad_request(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return problem(400, f"{place}: {first['msg']}", "correct this part of the request")


async def _own_error(_: Request, error: Exception) -> Response:
    return problem(503, str(error), "GET /healthz tells the state of each part")


async def _bug(_: Request, error: Exception) -> Response:
    return problem(500, f"internal error ({type(error).__name__})", "a mistake in etio; its log has the details")
