"""Asks the running daemon, over HTTP on loopback; for the command line."""

import http.client
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from etio.core.errors import EtioError

DEFAULT_URL = "http://127.0.0.1:9842"


class Client:
    """A daemon's HTTP interface. url and token default to $ETIO_URL and $ETIO_TOKEN."""

    def __init__(self, url: str = "", token: str = "") -> None:
        self.url = (url or os.environ.get("ETIO_URL", DEFAULT_URL)).rstrip("/")
        self._token = token or os.environ.get("ETIO_TOKEN", "")
        # The daemon is on this host: a proxy from the environment must not get between.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(self, path: str, **query: str | int) -> Any:
        """JSON answer of GET; raises EtioError with one clear line."""
        tail = "?" + urllib.parse.urlencode(query) if query else ""
        return self._json(self.text(path + tail))

    def post(self, path: str, body: Any) -> Any:
        """JSON answer of POST; raises EtioError with one clear line."""
        return self._json(self._fetch(path, json.dumps(body).encode()))

    def text(self, path: str) -> str:
        """Body of GET; raises EtioError with one clear line."""
        return self._fetch(path, None)

    def _json(self, text: str) -> Any:
        try:
            return json.loads(text)
        except ValueError as error:
            raise EtioError(f"what answers at {self.url} is not etio; set ETIO_URL") from error

    def _request(self, path: str, body: bytes | None) -> urllib.request.Request:
        headers = {"Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        try:
            if not self.url.startswith(("http://", "https://")):
                raise ValueError("it begins with neither http:// nor https://")
            return urllib.request.Request(self.url + path, data=body, headers=headers)
        except ValueError as error:
            raise EtioError(f"{self.url}: no address of a daemon ({error}); set ETIO_URL, as {DEFAULT_URL}") from error

    def _fetch(self, path: str, body: bytes | None) -> str:
        request = self._request(path, body)
        try:
            with self._opener.open(request, timeout=30) as answer:
                return str(answer.read().decode("utf-8", "replace"))
        except urllib.error.HTTPError as error:
            raise EtioError(_reason(error)) from error
        except (http.client.HTTPException, ValueError) as error:
            raise EtioError(f"what answers at {self.url} is not etio ({error}); set ETIO_URL") from error
        except OSError as error:
            raise EtioError(f"no daemon answers at {self.url} ({error}); start one with scripts/run, "
                            f"or set ETIO_URL") from error


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        data = json.loads(error.read())
        return f"{data['error']}" + (f"; {data['remedy']}" if data.get("remedy") else "")
    except (ValueError, KeyError, TypeError):
        return f"the daemon answered {error.code} {error.reason}"
