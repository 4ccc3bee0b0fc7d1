"""Asks servers for pages, each in a thread of its own: one that hangs or drips holds up neither others nor a tick."""

import contextlib
import http.client
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from collector.inference_text import MOST_BYTES
from etio.core.errors import Broken, NoData

CHUNK = 1 << 16
IDLE_S = 30.0
"""A thread that nobody asked for so long ends."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A page, or why there is none. seconds: steady clock at its end. refused: nobody listens there."""

    status: int
    body: bytes
    seconds: float
    error: str = ""
    refused: bool = False


class Client:
    """One server's connection, kept open between questions. Not for two threads at once."""

    def __init__(self, url: str, headers: Mapping[str, str], timeout_s: float) -> None:
        """Raises Broken for a URL that is none."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Broken(f"{url}: no http:// or https:// address")
        self._make = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._host, self._port = parts.hostname, parts.port
        self._headers = {"Accept": "text/plain, application/json", "User-Agent": "etio", **headers}
        self._timeout_s = timeout_s
        self._connection: http.client.HTTPConnection | None = None

    def get(self, path: str) -> Answer:
        """One GET, within the time-out as a whole. Never raises for what the other side does."""
        until = time.monotonic() + self._timeout_s
        kept = self._connection is not None
        answer = self._try(path, until)
        if kept and answer.error and time.monotonic() < until:  # it was closed since the last question
            answer = self._try(path, until)
        return answer

    def close(self) -> None:
        """Drops the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _try(self, path: str, until: float) -> Answer:
        try:
            if self._connection is None:
                self._connection = self._make(self._host, self._port, timeout=self._timeout_s)
            self._connection.request("GET", path, headers=self._headers)
            reply = self._connection.getresponse()
            body = _read(reply, until)
            reply.close()  # or the connection would take the answer for unread
            if reply.will_close:
                self.close()
            return Answer(reply.status, body, time.monotonic())
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            text = str(error) or type(error).__name__
            return Answer(0, b"", time.monotonic(), text, isinstance(error, ConnectionRefusedError))


def _read(reply: http.client.HTTPResponse, until: float) -> bytes:
    """The body. Raises TimeoutError or ValueError when it takes too long or has no end."""
    parts, size = [], 0
    while part := reply.read1(CHUNK):
        parts.append(part)
        size += len(part)
        if size > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES >> 20} MiB")
        if time.monotonic() > until:
            raise TimeoutError("the page did not end in time")
    return b"".join(parts)


class Asker:
    """Asks one server in a thread that it starts when needed."""

    def __init__(self, client: Client, name: str) -> None:
        self._client, self._name = client, name
        self._question: Callable[[Client], Answer] | None = None
        self._answer: Answer | None = None
        self._wake, self._done = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._closed = False

    def ask(self, question: Callable[[Client], Answer]) -> bool:
        """Begins to ask; False where the question before has no answer yet."""
        if self._thread is not None and self._thread.is_alive() and not self._done.is_set():
            return False
        self._answer, self._question = None, question
        self._done.clear()
        self._wake.set()
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._serve, name=f"ask-{self._name}", daemon=True)
            self._thread.start()
        return True

    def answer(self, seconds: float) -> Answer:
        """The answer, waited for at most so long. Raises NoData when it is not there."""
        if not self._done.wait(max(0.0, seconds)) or self._answer is None:
            raise NoData("no answer in time")
        return self._answer

    def close(self) -> None:
        """Ends the thread once it is free; does not wait."""
        self._closed = True
        self._wake.set()

    def _serve(self) -> None:
        with contextlib.closing(self._client):
            while self._wake.wait(IDLE_S) and not self._closed:
                self._wake.clear()
                question = self._question
                if question is not None:
                    self._answer = question(self._client)
                    self._done.set()
