"""Answers in the one shape that every caller can rely on."""

import json
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from etio.core import codec

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"


class Problem(HTTPException):
    """An answer that is an error, with its remedy: {"error": ..., "remedy": ...}."""

    def __init__(self, status: int, error: str, remedy: str = "") -> None:
        super().__init__(status, error)
        self.remedy = remedy


def json_reply(value: Any, status: int = 200) -> Response:
    """Plain values and frozen dataclasses as JSON (NaN is null)."""
    return Response(codec.dumps(value), status, media_type=JSON)


def plain_reply(value: Any) -> Response:
    """Plain values that hold no NaN, without the walk through them: for long arrays."""
    return Response(json.dumps(value, ensure_ascii=False, allow_nan=False), media_type=JSON)


def problem(status: int, error: str, remedy: str = "") -> Response:
    """The error shape as a response."""
    return json_reply({"error": error, "remedy": remedy}, status)


def wanted_type(request: Request, offered: tuple[str, ...]) -> str:
    """First of `offered` media types that the Accept header names, else the first offered."""
    for part in request.headers.get("accept", "").split(","):
        name = part.split(";", 1)[0].strip().lower()
        if name in offered:
            return name
    return offered[0]
