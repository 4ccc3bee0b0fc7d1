"""A real daemon of our own for a benchmark: started fresh, asked over HTTP, stopped."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.signals import held
from etio.client import Client
from etio.core.errors import EtioError


def free_port() -> int:
    """A TCP port on loopback that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Daemon:
    """A running `etio run`. pids: of the daemon and its helpers."""

    def __init__(self, process: subprocess.Popen[bytes], client: Client, log: Path) -> None:
        self.process = process
        self.client = client
        self.log = log

    @property
    def pids(self) -> tuple[int, ...]:
        """The daemon and all its children, at this moment."""
        return (self.process.pid, *children(self.process.pid))

    def status(self) -> dict[str, Any]:
        """/api/v1/status"""
        return dict(self.client.get("/api/v1/status"))

    def wait_ready(self, seconds: float = 60.0) -> None:
        """Waits for frames and for eBPF to be loaded or refused. Raises EtioError when they do not come."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise EtioError(f"the daemon ended: {self.log.read_text()[-2000:]}")
            with contextlib.suppress(EtioError):
                status = self.status()
                if status["ready"] and status["tier_reason"] != "loading":
                    return
            time.sleep(0.2)
        raise EtioError(f"the daemon is not ready after {seconds:g} s: {self.log.read_text()[-2000:]}")

    def wait_warm(self, seconds: float = 180.0) -> None:
        """Waits until most series have a baseline."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.status()["warming"]:
            time.sleep(1.0)

    def wait_quiet(self, seconds: float = 180.0) -> bool:
        """Waits until no alert fires; False when time ran out."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if not self.client.get("/api/v1/alerts", state="firing")["alerts"]:
                return True
            time.sleep(0.5)
        return False

    def stop(self) -> None:
        """SIGTERM, then SIGKILL after ten seconds."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def daemon(config: str = "") -> Iterator[Daemon]:
    """A fresh daemon with its own state folder and port; `config` is TOML text."""
    one: Daemon | None = None
    folder = Path(tempfile.mkdtemp(prefix="etio-bench-"))
    try:
        folder.chmod(0o755)
        with held():
            one = _started(folder, config)
        yield one
    finally:
        with held():
            if one is not None:
                one.stop()
            if keep := os.environ.get("ETIO_KEEP"):
                shutil.copytree(folder, Path(keep), dirs_exist_ok=True)
            shutil.rmtree(folder, ignore_errors=True)


def _started(folder: Path, config: str) -> Daemon:
    """In a session of its own, as systemd starts it: Ctrl-C ends the benchmark, and that ends the daemon."""
    port, log, toml = free_port(), folder / "log", folder / "etio.toml"
    toml.write_text(config)
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "etio", "run", "--config", str(toml), "--state", str(folder / "state"),
             "--port", str(port)], stdout=out, stderr=out, cwd="/", env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True)
    return Daemon(process, Client(f"http://127.0.0.1:{port}"), log)


def children(pid: int) -> list[int]:
    """All descendants of a process."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        kids = parents.get(todo.pop(), [])
        found += kids
        todo += kids
    return found
