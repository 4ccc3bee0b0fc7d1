"""Settings of the HTTP server and of the outgoing webhooks."""

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from etio.core.errors import ConfigError

TargetKind = Literal["webhook", "alertmanager"]


class BadSetting(ConfigError, ValueError):
    """A setting that cannot be kept: a ConfigError, and a ValueError so that etio.core.config lists it."""


@dataclass(frozen=True, slots=True)
class ApiConfig:
    """Where and for whom the daemon answers.

    host, port: TCP address; port 0 takes any free one. unix_socket: path besides, trusted by its file mode ("" = none).
    token, token_file: what callers send as "Authorization: Bearer ..."; needed on any address but loopback.
    allowed_hosts: further values of the Host header, beside localhost and the loopback addresses.
    max_connections: more than these are refused with 503. stale_s: older values are left out of /metrics.
    Raises BadSetting (a ConfigError) for an open address without a token.
    """

    host: str = "127.0.0.1"
    port: int = 9842
    token: str = field(default="", repr=False)
    token_file: str = ""
    unix_socket: str = ""
    allowed_hosts: tuple[str, ...] = ()
    max_connections: int = 64
    max_query_rows: int = 10_000
    query_timeout_s: float = 10.0
    stale_s: float = 30.0

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise BadSetting([f"port: {self.port} is no TCP port; use 0..65535, such as 9842"])
        if not is_loopback(self.host) and not (self.token or self.token_file):
            raise BadSetting([
                f"host: {self.host!r} can be reached from other machines, and no token is set; "
                'set token_file = "/etc/etio/token" (see `openssl rand -hex 32`), or host = "127.0.0.1"'
            ])


@dataclass(frozen=True, slots=True)
class Target:
    """One receiver of alerts.

    url: of the webhook itself, or the base address of an Alertmanager ("http://127.0.0.1:9093").
    token, token_file: sent as "Authorization: Bearer ..." when given. timeout_s: for one attempt.
    """

    url: str
    kind: TargetKind = "webhook"
    token: str = field(default="", repr=False)
    token_file: str = ""
    timeout_s: float = 5.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadSetting([f"url: {self.url!r} is no http(s) address; write it as http://host:port/path"])

    @property
    def endpoint(self) -> str:
        """The address that is posted to."""
        return self.url.rstrip("/") + "/api/v2/alerts" if self.kind == "alertmanager" else self.url


@dataclass(frozen=True, slots=True)
class WebhookConfig:
    """Outgoing alerts.

    external_url: how people reach the page from elsewhere, for links; "" = the address that is listened on.
    resend_s: how often firing alerts are sent again to an Alertmanager, which forgets them otherwise.
    min_retry_s, max_retry_s: bounds of the exponential back-off. keep_s: after that long an item is given up.
    """

    targets: tuple[Target, ...] = ()
    external_url: str = ""
    resend_s: float = 60.0
    min_retry_s: float = 1.0
    max_retry_s: float = 300.0
    keep_s: float = 7 * 86400.0


def is_loopback(host: str) -> bool:
    """True for localhost and the loopback addresses; any other name may mean any address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def read_token(token: str, token_file: str) -> str:
    """The token itself, "" where none is wanted. Raises ConfigError when the file cannot be read or is empty."""
    if token or not token_file:
        return token
    try:
        found = Path(token_file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"token_file: {token_file}: {error}; make it readable for the user etio runs as"]) from error
    if not found:
        raise ConfigError([f"token_file: {token_file} is empty; fill it, for example with `openssl rand -hex 32`"])
    return found
