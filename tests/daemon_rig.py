"""A real daemon for tests, as a user runs it: own state folder, port and log; started, asked, killed, started again."""

import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

ROOT = Path(__file__).parents[1]
ROOMS = ("etio", "collector", "detectors", "rca", "api")
QUIET = """
[rca.llm]
enabled = "off"
[store]
min_free_bytes = 0
batch_seconds = 0.5
compact = false
"""
"""What every test sets, unless it says otherwise: no model, and a store that works on small volumes."""


@cache
def sources() -> Path:
    """A folder with the program that every account can read."""
    if all(p.stat().st_mode & 0o005 == 0o005 for p in (ROOT, *ROOT.parents)):
        return ROOT
    copy = Path(tempfile.mkdtemp(prefix="etio-sources-"))
    copy.chmod(0o755)
    for room in ROOMS:
        shutil.copytree(ROOT / room, copy / room)
    subprocess.run(["chmod", "-R", "a+rX", str(copy)], check=True)
    return copy


def free_port() -> int:
    """A TCP port on loopback that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def environment(**more: str) -> dict[str, str]:
    """For a child that runs the program from the sources."""
    foreign = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "ETIO_URL", "ETIO_TOKEN")
    kept = {k: v for k, v in os.environ.items() if k not in foreign}
    return {**kept, "PYTHONPATH": str(sources()), "PYTHONUNBUFFERED": "1", **more}


def etio(*arguments: str, url: str = "", timeout: float = 60.0, user: str | None = None, **more: str
         ) -> subprocess.CompletedProcess[str]:
    """One run of the command line. A traceback fails the test, whatever it was about."""
    env = environment(ETIO_URL=url or "http://127.0.0.1:1", COLUMNS="160", **more)
    done = subprocess.run([sys.executable, "-m", "etio", *arguments], capture_output=True, text=True, env=env, cwd="/",
                          timeout=timeout, check=False, **_as(user))
    assert "Traceback" not in done.stderr + done.stdout, done.stderr + done.stdout
    return done


def _as(user: str | None) -> dict[str, Any]:
    if user is None or os.geteuid() != 0:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


def wait_for(what: Callable[[], Any], seconds: float = 20.0, pause: float = 0.05) -> Any:
    """The first true answer; fails the test when none comes in time.

    A moment in which everything stood still (a machine that was suspended) counts as at most a second.
    """
    spent, last = 0.0, time.monotonic()
    while True:
        if answer := what():
            return answer
        now = time.monotonic()
        spent, last = spent + min(now - last, 1.0), now
        assert spent < seconds, f"not within {seconds:g} s: {what.__qualname__}"
        time.sleep(pause)


class Rig:
    """One daemon, perhaps several times in a row, on one state folder."""

    def __init__(self, folder: Path, config: str = "", settings: str = QUIET) -> None:
        self.folder, self.state = folder, folder / "state"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.toml = folder / "etio.toml"
        self.toml.write_text(settings + config)
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, user: str | None = None, ready: bool = True, under: tuple[str, ...] = (), **env: str) -> "Rig":
        """Starts it; with `ready`, waits for frames. user: an account to start it as, when we are root.

        under: a command that runs it, such as one that limits what it may do.
        """
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [*under, sys.executable, "-m", "etio", "run", "--config", str(self.toml), "--state", str(self.state),
                 "--port", str(self.port)], stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd="/",
                env=environment(**env), **_as(user))
        if ready:
            self.wait_ready()
        return self

    def wait_ready(self, seconds: float = 60.0) -> None:
        """Waits until frames arrive."""
        wait_for(self._is_ready, seconds)

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.text()
        with contextlib.suppress(OSError):
            return bool(self.get("/api/v1/status")["ready"])
        return False

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def text(self) -> str:
        """Everything it printed so far, in all its lives."""
        return self.log.read_text(errors="replace")

    def get(self, path: str) -> Any:
        """JSON of a GET. Raises OSError."""
        with urllib.request.urlopen(self.url + path, timeout=20) as answer:
            return json.loads(answer.read())

    def raw(self, path: str, accept: str = "*/*") -> tuple[int, str]:
        """(status, body) of a GET."""
        request = urllib.request.Request(self.url + path, headers={"Accept": accept})
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def query(self, sql: str) -> list[list[Any]]:
        """Rows of a SELECT."""
        request = urllib.request.Request(self.url + "/api/v1/query", json.dumps({"sql": sql}).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            return list(json.loads(answer.read())["rows"])

    def status(self) -> dict[str, Any]:
        return dict(self.get("/api/v1/status"))

    def stop(self, seconds: float = 20.0) -> int:
        """SIGTERM; the exit status. It takes less than a second, on a host with a free core."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def kill(self) -> None:
        """SIGKILL, at this very moment."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Ends it if it still runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder that every account can enter; gone afterwards."""
    path = Path(tempfile.mkdtemp(prefix="etio-e2e-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def daemon(config: str = "", settings: str = QUIET) -> Iterator[Rig]:
    """A rig that is ended at the end, with its folder."""
    with folder() as path:
        rig = Rig(path, config, settings)
        try:
            yield rig
        finally:
            rig.close()


@contextlib.contextmanager
def tmpfs(at: Path, size: str = "16m") -> Iterator[Path]:
    """A small file system of its own. Needs root."""
    at.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0777", "etio-test", str(at)], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", str(at)], check=True)


def fill(mount: Path) -> Path:
    """Fills a file system to the last byte; returns the file."""
    path = mount / "filler"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 20))
    with path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(512))
    return path


class Receiver:
    """A webhook receiver process; its requests survive its own restarts."""

    def __init__(self, at: Path) -> None:
        self.port, self.file = free_port(), at / "webhooks"
        self.url = f"http://127.0.0.1:{self.port}/hook"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Receiver":
        receiver = Path(__file__).with_name("webhook_receiver.py")
        self.process = subprocess.Popen([sys.executable, str(receiver), str(self.port), str(self.file)])
        wait_for(self._listens)
        return self

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def bodies(self) -> list[dict[str, Any]]:
        """What came so far, oldest first."""
        if not self.file.exists():
            return []
        return [json.loads(line)["body"] for line in self.file.read_text().splitlines()]


class FakeHost:
    """A recorded host in a folder of its own, whose files can be changed: a fault without hurting anybody."""

    FAULTS: ClassVar = {
        "files": ("proc/sys/fs/file-nr", b"999999\t0\t1000000\n", b"91234\t0\t1000000\n"),
        "conntrack": ("proc/sys/net/netfilter/nf_conntrack_count", b"262100\n", b"1234\n"),
    }

    def __init__(self, at: Path, name: str = "debian12-6.1-2node") -> None:
        self.root = at / "root"
        shutil.copytree(Path(__file__).with_name("golden") / name, self.root, symlinks=True)
        subprocess.run(["chmod", "-R", "a+rX", str(self.root)], check=True)
        kernel = self.root / "proc/sys/kernel"
        kernel.mkdir(parents=True, exist_ok=True)
        (kernel / "hostname").write_text("recorded\n")

    def exhaust(self, what: str = "files") -> None:
        """Alert FileHandlesExhausted, or ConntrackFull."""
        name, bad, _ = self.FAULTS[what]
        self.write(name, bad)

    def relax(self) -> None:
        """All is well again."""
        for name, _, good in self.FAULTS.values():
            self.write(name, good)

    def write(self, name: str, content: bytes) -> None:
        """In place, as the kernel does it: whoever has the file open sees the new content."""
        fd = os.open(self.root / name, os.O_WRONLY)
        try:
            os.pwrite(fd, content, 0)
            os.ftruncate(fd, len(content))
        finally:
            os.close(fd)
