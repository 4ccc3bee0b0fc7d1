"""The page and its files, read once into memory: no path of a request ever reaches the file system."""

from functools import cache
from hashlib import blake2b
from importlib.resources import files
from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from api.replies import Problem
from api.routing import Routes

router = Routes()
TYPES: Final = {
    ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml",
}


class Asset(NamedTuple):
    """One file of the page."""

    body: bytes
    media_type: str
    etag: str


@cache
def assets() -> dict[str, Asset]:
    """Files of api/web by name."""
    found = {}
    for entry in files("api.web").iterdir():
        suffix = "." + entry.name.rpartition(".")[2]
        if suffix in TYPES:
            body = entry.read_bytes()
            found[entry.name] = Asset(body, TYPES[suffix], f'"{blake2b(body, digest_size=8).hexdigest()}"')
    return found


@router.get("/")
async def page(request: Request) -> Response:
    """The page."""
    return _serve(request, "index.html")


@router.get("/static/{name}")
async def static(request: Request, name: str) -> Response:
    """A file of the page."""
    return _serve(request, name)


def _serve(request: Request, name: str) -> Response:
    asset = assets().get(name)
    if asset is None:
        raise Problem(404, f"no file {name[:60]!r}", "the page is at /")
    headers = {"etag": asset.etag, "cache-control": "no-cache"}
    if request.headers.get("if-none-match") == asset.etag:
        return Response(status_code=304, headers=headers)
    return Response(asset.body, media_type=asset.media_type, headers=headers)
