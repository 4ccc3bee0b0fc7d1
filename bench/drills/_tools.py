"""How faults are caused and undone."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

SERVE = """
import socket
server = socket.create_server(("127.0.0.1", 0), backlog=16)
while True:
    server.accept()[0].close()
"""
"""Program of a server that takes every connection and closes it."""


@contextlib.contextmanager
def running(*commands: Sequence[str], cgroups: Sequence[Path] = (), cwd: str | None = None) -> Iterator[None]:
    """Runs commands at normal priority, each in a session of its own, and kills what they started on leaving.

    cgroups: folders whose cgroup.procs each child joins before it executes.
    """
    def join() -> None:
        with contextlib.suppress(PermissionError):  # whatever this program was started with
            os.setpriority(os.PRIO_PROCESS, 0, 0)
        for folder in cgroups:
            (folder / "cgroup.procs").write_text(str(os.getpid()))

    started = [
        subprocess.Popen(c, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                         preexec_fn=join, cwd=cwd)  # noqa: PLW1509  # single-threaded here
        for c in commands
    ]
    try:
        yield
    finally:
        _end(started)


def _end(started: Sequence[subprocess.Popen[bytes]]) -> None:
    """A polite end first, so that programs stop the workers they put into sessions of their own; then a hard one."""
    for number, patience_s in ((signal.SIGTERM, 2.0), (signal.SIGKILL, 5.0)):
        for process in started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
        until = time.monotonic() + patience_s
        for process in started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, until - time.monotonic()))


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder on a real disk, removed on leaving."""
    folder = Path(tempfile.mkdtemp(prefix="scratch-", dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def small_ext4(folder: Path, name: str, mib: int) -> Iterator[Path]:
    """A file system of its own below `folder`, ext4 on a loop device; yields where it is mounted."""
    image, mount = folder / f"{name}.img", folder / name
    mount.mkdir()
    with image.open("wb") as out:
        out.truncate(mib << 20)
    sh("mkfs.ext4", "-q", "-F", str(image))
    sh("mount", "-o", "loop", str(image), str(mount))
    try:
        yield mount
    finally:
        sh("umount", "-l", str(mount))


def named_python(folder: Path, name: str, code: str) -> list[str]:
    """A command whose process is called `name` and runs Python code."""
    link = folder / name
    if not link.exists():
        link.symlink_to(os.path.realpath("/usr/bin/python3"))
    return [str(link), "-c", code]


def has_v1(controller: str) -> bool:
    """Whether the cgroup v1 hierarchy of a controller is mounted."""
    return Path(f"/sys/fs/cgroup/{controller}/tasks").exists()


@contextlib.contextmanager
def cgroup(name: str, controller: str, limits: dict[str, str], v2: dict[str, str]) -> Iterator[Path]:
    """A control group with limits: v1 files, or their v2 counterparts; removed on leaving."""
    if has_v1(controller):
        folder, files = Path(f"/sys/fs/cgroup/{controller}/{name}"), limits
    else:
        folder, files = Path(f"/sys/fs/cgroup/{name}"), v2
        with contextlib.suppress(OSError):
            Path("/sys/fs/cgroup/cgroup.subtree_control").write_text(f"+{controller}")
    folder.mkdir(exist_ok=True)
    try:
        for file, value in files.items():
            (folder / file).write_text(value)
        yield folder
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    for _ in range(50):
        for pid in (folder / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        with contextlib.suppress(OSError):
            folder.rmdir()
            return
        time.sleep(0.1)


def sh(*command: str) -> None:
    """Runs one command; raises CalledProcessError with its output when it fails."""
    subprocess.run(command, check=True, capture_output=True, text=True)


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))

