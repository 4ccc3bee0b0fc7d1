"""The HTTP application. Knows the archive and the running daemon only as roles (etio.core.ports)."""

from collections.abc import Mapping

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

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
    archive: Archive, live: Live, config: ApiConfig, render: Render, help_texts: Mapping[str, str] | None = None,
    lean: bool = False,
) -> Starlette:
    """The application.

    render(report, "markdown" | "html"): text of a report; "html" is a fragment without scripts.
    help_texts: series name to one sentence, for HELP in /metrics.
    lean: without FastAPI, for less memory.
    `app.state.etio.hub.changed()` tells open pages at once that an incident or report changed.
    Raises ConfigError when the token file cannot be read.
    """
    app = _application(lean)
    app.state.etio = Context(archive, live, config, render, Exposition(help_texts), Hub(archive, live))
    app.add_middleware(Guard, config=config, token=read_token(config.token, config.token_file))
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(EtioError, _own_error)
    app.add_exception_handler(500, _bug)
    return app


def _application(lean: bool) -> Starlette:
    """The routes on one of two frameworks; each is imported only where it is used."""
    paths = [path for one in (health, records, data, pages) for path in one.router.paths]
    if lean:
        from api.plain import application
    else:
        from api.full import application
    return application(paths)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    remedy = error.remedy if isinstance(error, Problem) else {404: "GET / is the page; /api/v1/status the status",
                                                              405: "use another method"}.get(error.status_code, "")
    return problem(error.status_code, str(error.detail), remedy)


async def _own_error(_: Request, error: Exception) -> Response:
    return problem(503, str(error), "GET /healthz tells the state of each part")


async def _bug(_: Request, error: Exception) -> Response:
    return problem(500, f"internal error ({type(error).__name__})", "a mistake in etio; its log has the details")
