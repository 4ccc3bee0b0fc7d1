"""The HTTP server in a thread of its own. Wakes up for requests only: no ticking while nobody asks."""

import asyncio
import errno
import logging
import os
import socket
import stat
import threading
from pathlib import Path
from typing import Final

import anyio.to_thread
from starlette.applications import Starlette

from api.config import ApiConfig
from api.uvicorn_parts import Config, Server
from etio.core.errors import EtioError

WORKERS: Final = 4
"""Threads for calls that wait for the archive."""
START_S: Final = 10.0
BACKLOG: Final = 64
TURNS: Final = 3
"""Of the loop, from a connection that is accepted to one that the server knows."""
log = logging.getLogger("etio.api")


class ListenError(EtioError):
    """The address cannot be listened on; the text names it and the remedy."""


class _Server(Server):
    """uvicorn without its ten wake-ups a second."""

    def __init__(self, config: Config, app: Starlette) -> None:
        super().__init__(config)
        self._app = app
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self.up = threading.Event()

    async def main_loop(self) -> None:
        self._loop = asyncio.get_running_loop()
        anyio.to_thread.current_default_thread_limiter().total_tokens = WORKERS
        self.up.set()
        await self._stop.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.state.etio.hub.close()
        await self._accept_no_more()
        await super().shutdown(sockets)

    async def _accept_no_more(self) -> None:
        """Who is at the door is let in: Python 3.13 stumbles over a connection whose server closes meanwhile."""
        loop = asyncio.get_running_loop()
        for listener in (one for server in self.servers for one in server.sockets):
            loop.remove_reader(listener.fileno())
        for _ in range(TURNS):
            await asyncio.sleep(0)

    def end(self) -> None:
        """Asks the loop to end. For any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)


class ApiServer:
    """Serves `app` as the configuration says.

    start() binds at once (so that a taken port is told where the daemon starts) and serves from a thread.
    """

    def __init__(self, app: Starlette, config: ApiConfig) -> None:
        self._app, self._config = app, config
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self._unix = ""
        self.port = config.port

    @property
    def address(self) -> str:
        """What a person types, such as http://127.0.0.1:9842."""
        host = self._config.host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def start(self) -> None:
        """Binds, starts the thread and waits until it serves. Raises ListenError."""
        sockets = [bind_tcp(self._config.host, self._config.port)]
        self.port = sockets[0].getsockname()[1]
        try:
            if self._config.unix_socket:
                sockets.append(bind_unix(self._config.unix_socket))
                self._unix = self._config.unix_socket
        except ListenError:
            sockets[0].close()
            raise
        self._server = server = _Server(_uvicorn_config(self._app, self._config), self._app)
        self._thread = threading.Thread(target=server.run, args=(sockets,), name="etio-api", daemon=True)
        self._thread.start()
        if not server.up.wait(START_S):
            raise ListenError(f"{self.address}: no server within {START_S:.0f} s; its log has the reason")

    def changed(self) -> None:
        """Tells open pages at once that an incident or a report changed. For any thread."""
        self._app.state.etio.hub.changed()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Ends open streams, finishes running requests and ends the thread. May be called twice."""
        if self._server is not None and self._thread is not None:
            self._server.end()
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                log.warning("the HTTP thread did not end within %.0f s", timeout_s)
        if self._unix:
            Path(self._unix).unlink(missing_ok=True)
        self._server = self._thread = None
        self._unix = ""


def _uvicorn_config(app: Starlette, config: ApiConfig) -> Config:
    return Config(
        app, loop="asyncio", http="h11", ws="none", lifespan="off", interface="asgi3", log_config=None,
        access_log=False, server_header=False, date_header=False, proxy_headers=False,
        limit_concurrency=config.max_connections, timeout_keep_alive=15, timeout_graceful_shutdown=2, backlog=BACKLOG,
        h11_max_incomplete_event_size=32 * 1024,
    )


def bind_tcp(host: str, port: int) -> socket.socket:
    """A bound TCP socket. Raises ListenError naming the port and what to do."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol is named; without it each answer waits 40 ms for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host.strip("[]"), port))
        listener.listen(BACKLOG)  # now: a port that is only bound could still be taken by another
    except OSError as error:
        listener.close()
        raise ListenError(f"cannot listen on {host} port {port}: {_reason(error, port)}") from error
    return listener


def _reason(error: OSError, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return (f"another program uses it; find it with `ss -ltnp 'sport = :{port}'`, "
                "or set another port under [api] in etio.toml (port = ...)")
    if error.errno in (errno.EACCES, errno.EPERM):
        return "no permission; ports below 1024 need a privilege; set a higher port under [api] in etio.toml"
    if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return "this host has no such address; see `ip addr`, and set host under [api] in etio.toml"
    return f"{error.strerror or error}; set host and port under [api] in etio.toml"


def bind_unix(path: str) -> socket.socket:
    """A bound Unix socket, for user and group only; a dead one of an earlier run is replaced. Raises ListenError."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_dead(path)
        old = os.umask(0o117)
        try:
            listener.bind(path)
        finally:
            os.umask(old)
    except OSError as error:
        listener.close()
        hint = "set api.unix_socket to a path whose folder exists and may be written"
        raise ListenError(f"cannot listen on {path}: {error.strerror or error}; {hint}") from error
    return listener


def _remove_dead(path: str) -> None:
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise OSError(errno.EEXIST, "a file that is no socket is in the way")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise OSError(errno.EADDRINUSE, "another etio is listening there")
