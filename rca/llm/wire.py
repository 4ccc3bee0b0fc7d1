"""HTTP to a model server: bounded in time and size, no proxies, no redirects, loopback unless allowed.

Whatever a server says is untrusted, its error texts too: they never reach a report, only our own words for them do.
"""

import ipaddress
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from etio.core.errors import ModelError

if TYPE_CHECKING:
    import httpx

MAX_BYTES = 1_000_000
CHARS_PER_TOKEN_LEAST = 3.0
"""Dense text (numbers, JSON) has about this many characters per token: an upper estimate of the prompt's tokens."""
CHARS_PER_TOKEN_MOST = 5.5
"""Hardly any text has more: a lower estimate. A server that counts fewer has cut the prompt."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}")
_CLOUD = re.compile(r"[:-]cloud$")

T = TypeVar("T")
Json = dict[str, Any]


class InvalidAnswer(ModelError):
    """The model answered, but not with JSON of the schema; asking once more may help."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One answer of a server. body: the decoded JSON, or None where it was none."""

    status: int
    body: Any


def check_endpoint(endpoint: str, allow_remote: bool) -> str:
    """The endpoint without a trailing slash. Raises ModelError when it is no URL or leaves this host unasked."""
    try:
        parts = urlsplit(endpoint)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise ModelError("the endpoint is no URL") from error
    if parts.scheme not in ("http", "https") or not host or parts.username or parts.query or parts.fragment:
        raise ModelError("the endpoint is no plain http(s) URL")
    if not allow_remote and not is_loopback(host):
        raise ModelError("the endpoint is not on this host; set llm.allow_remote to send figures there")
    return endpoint.rstrip("/")


def is_loopback(host: str) -> bool:
    """Whether a host name or address is certainly this host.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("localhost.example.org")
    (True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def clean_name(name: object) -> str:
    """A model name fit to be shown; "" when it is none."""
    return name if isinstance(name, str) and _NAME.fullmatch(name) else ""


def is_cloud(entry: Mapping[str, Any]) -> bool:
    """Whether a listed model (or an answer) comes from elsewhere, through the loopback server.

    >>> is_cloud({"name": "big:cloud"}), is_cloud({"name": "a", "remote_host": "https://x"}), is_cloud({"name": "a:8b"})
    (True, True, False)
    """
    names = (str(entry.get(key, "")) for key in ("name", "model"))
    return bool(entry.get("remote_host") or entry.get("remote_model")) or any(_CLOUD.search(n) for n in names)


def within(deadline_s: float, work: Callable[[], Awaitable[T]]) -> T:
    """Runs `work` on a loop of its own until the deadline (wall clock). Raises ModelError when late or unreachable."""
    import asyncio

    import httpx

    async def limited() -> T:
        async with asyncio.timeout(max(deadline_s, 0.001)):
            return await work()

    try:
        return asyncio.run(limited())
    except TimeoutError as error:
        raise ModelError(f"no complete answer within {deadline_s:.1f} s") from error
    except httpx.ConnectError as error:
        raise ModelError("nobody listens at the endpoint") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ModelError(f"the connection failed ({type(error).__name__})") from error


@asynccontextmanager
async def client(endpoint: str) -> AsyncIterator["httpx.AsyncClient"]:
    """A client that follows nobody and takes nothing from the environment; `within` keeps the time."""
    import httpx

    async with httpx.AsyncClient(base_url=endpoint, trust_env=False, follow_redirects=False, timeout=None) as opened:
        yield opened


async def fetch(opened: "httpx.AsyncClient", method: str, path: str, body: Json | None = None) -> Exchange:
    """One request, one JSON answer. Raises ModelError for redirects and answers above MAX_BYTES."""
    async with opened.stream(method, path, json=body) as response:
        chunks = [chunk async for chunk in bounded(response)]
        return Exchange(response.status_code, decode(b"".join(chunks)))


async def bounded(response: "httpx.Response") -> AsyncIterator[bytes]:
    """The body piece by piece. Raises ModelError for redirects and beyond MAX_BYTES."""
    if response.is_redirect:
        raise ModelError("the endpoint redirects elsewhere, which is not followed")
    size = 0
    async for chunk in response.aiter_bytes():
        size += len(chunk)
        if size > MAX_BYTES:
            raise ModelError(f"the answer is longer than {MAX_BYTES // 1000} kB")
        yield chunk


def decode(data: bytes | str) -> Any:
    """JSON, or None where it is none."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def as_dict(value: Any) -> Json:
    """`value` where it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_count(value: Any) -> int:
    """A count a server gave; 0 where it gave none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def check_fits(characters: int, num_ctx: int, num_predict: int) -> None:
    """Raises ModelError when prompt and answer may not fit the context."""
    tokens = characters / CHARS_PER_TOKEN_LEAST
    if tokens + num_predict > num_ctx:
        raise ModelError(f"the prompt (about {tokens:.0f} tokens) does not fit into num_ctx = {num_ctx}")


def check_uncut(characters: int, counted: int) -> None:
    """Raises ModelError when the server read fewer tokens than the prompt can possibly have. counted 0 = not told."""
    if 0 < counted < characters / CHARS_PER_TOKEN_MOST:
        raise ModelError(f"the server cut the prompt: it read {counted} tokens of {characters} characters")


def check_json(text: str) -> None:
    """Raises InvalidAnswer when the text is no JSON object."""
    if not isinstance(decode(text), dict):
        raise InvalidAnswer("the answer is no JSON object")
