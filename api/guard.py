"""Who may ask: Host check against DNS rebinding, bearer token, size limit, security headers. A plain ASGI layer."""

import hmac
import re
from collections.abc import Iterable
from email.utils import formatdate
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.config import ApiConfig, is_loopback
from api.replies import problem

MAX_BODY_BYTES: Final = 64 * 1024
OPEN_PATHS: Final = frozenset({"/", "/healthz", "/readyz", "/-/healthy", "/-/ready"})
"""Answered without a token: the page holds no data, and the probes then tell no details."""

CONTENT_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Final = tuple((name.encode(), value.encode()) for name, value in {
    "content-security-policy": CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}.items())

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(?::\d+)?")
Headers = dict[bytes, bytes]
Refusal = tuple[int, str, str]


class Guard:
    """Refuses what must not reach the app and sets scope["etio.trusted"] for what may see details."""

    def __init__(self, app: ASGIApp, config: ApiConfig, token: str) -> None:
        self.app = app
        self._token = token.encode()
        self._hosts = allowed_hosts(config) if is_loopback(config.host) else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Checks one request and hands it on."""
        if scope["type"] != "http":
            return
        headers: Headers = dict(scope["headers"])
        refusal = self._refusal(scope, headers)
        answer = problem(*refusal) if refusal else self.app
        await answer(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope, headers: Headers) -> Refusal | None:
        local = _is_unix(scope)
        if not local and self._hosts is not None and _host(headers) not in self._hosts:
            return 403, "this Host header is not served", "use http://127.0.0.1, or add the name to api.allowed_hosts"
        if scope["method"] == "POST" and (refusal := _bad_post(headers)):
            return refusal
        trusted = local or not self._token or hmac.compare_digest(_bearer(headers), self._token)
        scope["etio.trusted"] = trusted
        if not trusted and scope["path"] not in OPEN_PATHS and not scope["path"].startswith("/static/"):
            return 401, "a token is needed", "send Authorization: Bearer TOKEN, the token of api.token_file"
        return None


def allowed_hosts(config: ApiConfig) -> frozenset[str]:
    """Host names, without port, that a browser on this machine may use for us."""
    return frozenset({"localhost", "127.0.0.1", "[::1]", config.host.lower(), *map(str.lower, config.allowed_hosts)})


def _host(headers: Headers) -> str:
    """Name without port; "" for what is no host name at all, which no list holds."""
    found = _HOST.fullmatch(headers.get(b"host", b"").decode("latin-1").lower())
    return found[1] if found else ""


def _bearer(headers: Headers) -> bytes:
    scheme, _, rest = headers.get(b"authorization", b"").partition(b" ")
    return rest.strip() if scheme.lower() == b"bearer" else b""


def _bad_post(headers: Headers) -> Refusal | None:
    """Only JSON of a bounded size, and not from another site's page (a form cannot send JSON without asking first)."""
    if headers.get(b"content-type", b"").split(b";")[0].strip().lower() != b"application/json":
        return 415, "the body must be JSON", "send Content-Type: application/json"
    length = headers.get(b"content-length", b"")
    if not length.isdigit():
        return 411, "the length of the body is unknown", "send Content-Length"
    if int(length) > MAX_BODY_BYTES:
        return 413, f"the body is larger than {MAX_BODY_BYTES} bytes", "send less"
    if headers.get(b"sec-fetch-site", b"same-origin") not in (b"same-origin", b"none"):
        return 403, "a page of another site may not ask this", "use the page that etio serves"
    return None


def _is_unix(scope: Scope) -> bool:
    server = scope.get("server")
    return server is not None and server[1] is None


def _with_headers(send: Send) -> Send:
    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *_added(message["headers"])]
        await send(message)

    return wrapped


def _added(present: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    names = {name.lower() for name, _ in present}
    extra = [*HEADERS, (b"date", formatdate(usegmt=True).encode()), (b"cache-control", b"no-store")]
    return [(name, value) for name, value in extra if name not in names]
