"""The routes on FastAPI: parameters are validated by pydantic."""

import inspect
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Annotated, Any, cast, get_args, get_origin, get_type_hints

import fastapi
from fastapi import Depends, FastAPI, Query
from fastapi.exceptions import RequestValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from api.context import Context
from api.replies import problem
from api.routing import Body, Bounds, Many, Path


async def _context(request: Request) -> Context:
    return cast(Context, request.app.state.etio)


async def _bad_request(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return problem(400, f"{place}: {first['msg']}", "correct this part of the request")


def application(paths: Sequence[Path]) -> Starlette:
    """A FastAPI application with these routes; app.state.etio has to be the Context."""
    app = FastAPI(title="etio", docs_url=None, redoc_url=None, openapi_url=None)
    for path in paths:
        app.add_api_route(path.path, spoken(path.answer), methods=list(path.methods), response_model=None)
    app.add_exception_handler(RequestValidationError, _bad_request)
    return app


def spoken(answer: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, with a signature in FastAPI's words."""
    hints = get_type_hints(answer, include_extras=True)
    given = inspect.signature(answer).parameters
    twin = FunctionType(answer.__code__, answer.__globals__, answer.__name__, answer.__defaults__, answer.__closure__)
    twin.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [one.replace(annotation=_spoken_type(hints[name]), kind=one.KEYWORD_ONLY) for name, one in given.items()])
    twin.__kwdefaults__ = {name: one.default for name, one in given.items() if one.default is not one.empty}
    return twin


def _spoken_type(hint: Any) -> Any:
    if hint is Context:
        return Annotated[Context, Depends(_context)]
    if get_origin(hint) is not Annotated:
        return hint
    plain, mark = get_args(hint)
    if isinstance(mark, Bounds):
        return Annotated[plain, Query(ge=mark.ge, le=mark.le)]
    if isinstance(mark, Many):
        return Annotated[plain, Query(max_length=mark.most)]
    assert isinstance(mark, Body)
    return Annotated[plain, fastapi.Body(embed=True)]
