"""Routes as data: what answers which path, written once, served by FastAPI (api.full) or Starlette alone (api.plain).

A parameter of an answering function is, by its annotation: Context or Request themselves; a part of the path, when it
is named there; text or one of several words of the query string; Annotated[int, Bounds(...)] or
Annotated[list[str], Many(...)] of the query string; Annotated[str, Body()] of a JSON object that is the body.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

Answer = TypeVar("Answer", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Bounds:
    """Smallest and largest value of an integer."""

    ge: int
    le: int


@dataclass(frozen=True, slots=True)
class Many:
    """A name that may be repeated, so often at most."""

    most: int


@dataclass(frozen=True, slots=True)
class Body:
    """A text in the JSON object of the body."""


@dataclass(frozen=True, slots=True)
class Path:
    """One path and what answers it."""

    path: str
    methods: tuple[str, ...]
    answer: Callable[..., Any]


@dataclass(slots=True)
class Routes:
    """Routes of one module, all under `prefix`."""

    prefix: str = ""
    paths: list[Path] = field(default_factory=list)

    def on(self, path: str, *methods: str) -> Callable[[Answer], Answer]:
        """Decorator: the function answers these methods of the path."""
        def keep(answer: Answer) -> Answer:
            self.paths.append(Path(self.prefix + path, methods, answer))
            return answer

        return keep

    def get(self, path: str) -> Callable[[Answer], Answer]:
        """Decorator: the function answers GET."""
        return self.on(path, "GET")

    def post(self, path: str) -> Callable[[Answer], Answer]:
        """Decorator: the function answers POST."""
        return self.on(path, "POST")
