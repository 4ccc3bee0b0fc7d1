"""The routes on Starlette alone, for the lean profile: no pydantic, 13 MB less."""

import inspect
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.context import Context
from api.replies import Problem
from api.routing import Body, Bounds, Many, Path

REMEDY = "correct this part of the request"
MISSING = object()


def application(paths: Sequence[Path]) -> Starlette:
    """A Starlette application with these routes; app.state.etio has to be the Context."""
    routes = []
    for path in paths:
        route = Route(path.path, endpoint(path), methods=list(path.methods))
        route.methods = set(path.methods)  # Starlette adds HEAD to each GET
        routes.append(route)
    return Starlette(routes=routes)


def endpoint(path: Path) -> Callable[[Request], Awaitable[Response]]:
    """Starlette's kind of function: takes the parameters from the request, answers with what `path.answer` says."""
    wanted = parameters(path)

    async def answered(request: Request) -> Response:
        body = await _body(request) if any(w.source == "body" for w in wanted) else {}
        values = {one.name: one.value(request, body) for one in wanted}
        if inspect.iscoroutinefunction(path.answer):
            reply: Response = await path.answer(**values)
            return reply
        return await run_in_threadpool(path.answer, **values)

    return answered


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument of an answering function. source: context, request, path, query or body; words: those allowed."""

    name: str
    source: str
    default: Any = MISSING
    mark: Bounds | Many | Body | None = None
    words: tuple[str, ...] = ()

    def value(self, request: Request, body: Mapping[str, Any]) -> Any:
        """Its value. Raises Problem 400."""
        match self.source:
            case "context":
                return request.app.state.etio
            case "request":
                return request
            case "path":
                return request.path_params[self.name]
            case "body":
                return self._text(body)
        found = request.query_params.getlist(self.name)
        if not found:
            return self._without()
        return self._many(found) if isinstance(self.mark, Many) else self._one(found[-1])

    def _without(self) -> Any:
        if self.default is MISSING:
            raise self._problem("Field required")
        return self.default

    def _text(self, body: Mapping[str, Any]) -> str:
        found = body.get(self.name)
        if found is None:
            raise self._problem("Field required")
        if not isinstance(found, str):
            raise self._problem("Input should be a valid string")
        return found

    def _many(self, found: list[str]) -> list[str]:
        assert isinstance(self.mark, Many)
        if len(found) > self.mark.most:
            raise self._problem(f"List should have at most {self.mark.most} items, not {len(found)}")
        return found

    def _one(self, text: str) -> str | int:
        if self.words and text not in self.words:
            raise self._problem(f"Input should be {' or '.join(map(repr, self.words))}")
        return self._number(text, self.mark) if isinstance(self.mark, Bounds) else text

    def _number(self, text: str, bounds: Bounds) -> int:
        digits = text.strip().removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
            raise self._problem("Input should be a valid integer")
        number = int(text)
        if not bounds.ge <= number <= bounds.le:
            raise self._problem(f"Input should be between {bounds.ge} and {bounds.le}")
        return number

    def _problem(self, text: str) -> Problem:
        return Problem(400, f"{self.source}.{self.name}: {text}", REMEDY)


def parameters(path: Path) -> tuple[Parameter, ...]:
    """What the function of a path wants to know, by its annotations."""
    hints = get_type_hints(path.answer, include_extras=True)
    given = inspect.signature(path.answer).parameters
    return tuple(_parameter(name, hints[name], MISSING if one.default is one.empty else one.default, path.path)
                 for name, one in given.items())


def _parameter(name: str, hint: Any, default: Any, path: str) -> Parameter:
    if hint is Context:
        return Parameter(name, "context")
    if hint is Request:
        return Parameter(name, "request")
    if f"{{{name}}}" in path:
        return Parameter(name, "path")
    if get_origin(hint) is Annotated:
        mark = get_args(hint)[1]
        return Parameter(name, "body" if isinstance(mark, Body) else "query", default, mark)
    return Parameter(name, "query", default, words=_words(hint))


def _words(hint: Any) -> tuple[str, ...]:
    """The words of a Literal, of one that may be None as well; () for any text."""
    if get_origin(hint) in (Union, UnionType):
        hint = next(part for part in get_args(hint) if part is not NoneType)
    return get_args(hint) if get_origin(hint) is Literal else ()


async def _body(request: Request) -> Mapping[str, Any]:
    """The JSON object of the body. Raises Problem 400."""
    try:
        found = json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise Problem(400, "body: JSON decode error", REMEDY) from error
    if not isinstance(found, dict):
        raise Problem(400, "body: Input should be a valid dictionary", REMEDY)
    return found
