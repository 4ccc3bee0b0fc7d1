"""The daemon where nothing fails but little is seen: in a container, behind hidepid, as a root that is none."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import daemon_rig as rigs

pytestmark = [pytest.mark.slow, pytest.mark.needs_root]
CONFIG = '[daemon]\nebpf = "off"\n'
CONTAINER = ("unshare", "-m", "-p", "-f", "--mount-proc")
HIDEPID = (*CONTAINER, "sh", "-c", 'mount -o remount,hidepid=2 /proc && exec "$@"', "sh")
AHEAD_S = 100_000_000
IN_ANOTHER_TIME = ("unshare", "--time", f"--boottime={AHEAD_S}", f"--monotonic={AHEAD_S}", "-f")
POWERLESS = ("setpriv", "--bounding-set=-all")


@contextlib.contextmanager
def daemon(under: tuple[str, ...]) -> Iterator[rigs.Rig]:
    """A daemon in name spaces of its own; it is ended by itself, for `unshare` passes no signal on."""
    with rigs.daemon(CONFIG) as rig:
        try:
            yield rig.start(under=under)
        finally:
            for child in _children(rig.pid):
                os.kill(child, signal.SIGTERM)
            rig.process.wait(20)
        assert rig.process.returncode == 0, rig.text()
        assert "Traceback" not in rig.text()


def _children(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(path.parent.name))
    return found


@pytest.mark.parametrize("under", [CONTAINER, HIDEPID])
def test_in_a_container_it_says_what_it_does_not_see(under):
    with daemon(under) as rig:
        parts = {c["name"]: c for c in rig.status()["collectors"]}
        assert parts["all_processes"]["state"] == "nodata"
        assert "--pid=host" in parts["all_processes"]["remedy"]
        doctor = rigs.etio("doctor", url=rig.url).stdout
        assert "all_processes" in doctor


def test_in_a_time_namespace_no_clock_jumps():
    with daemon(IN_ANOTHER_TIME) as rig:
        frames = rig.status()["frames"]
        rigs.wait_for(lambda: rig.status()["frames"] > frames + 2)
        status = rig.status()
        assert abs(status["last_frame_ns"] - status["now_ns"]) < 60e9
        assert rig.query("SELECT count(*) FROM events WHERE kind = 'clock_step'") == [[0]]


def test_root_without_capabilities_ends_with_one_line():
    with rigs.folder() as folder:
        done = subprocess.run([*POWERLESS, sys.executable, "-m", "etio", "run", "--state", str(folder / "state"),
                               "--port", str(rigs.free_port())], capture_output=True, text=True, timeout=60,
                              env=rigs.environment(), cwd="/", check=False)
        assert done.returncode == 2, done.stderr
        assert "CAP_SETUID" in done.stderr
        assert "ordinary user" in done.stderr
        assert "Traceback" not in done.stderr
