"""Control groups that a test makes on this host: their limits, what these do, and that they vanish."""

import math
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from collector import cgroup_files as files
from collector.cgroups import CgroupReader
from etio.core.builder import Catalogue, FrameBuilder
from etio.core.frame import NS
from tests.cgroup_rig import T0, of, opened, raw

# --- real groups ------------------------------------------------------------------------------------------------------

BUSY = "import time\nend = time.time() + 20\nwhile time.time() < end: pass"


V1_FILES = {"cpu": "cpu.cfs_quota_us", "memory": "memory.limit_in_bytes", "pids": "pids.max"}
V2_FILES = {"cpu": "cpu.max", "memory": "memory.max", "pids": "pids.max"}


@contextmanager
def real_group(name, **limits):
    """A group of this host with limits by controller (cpu in microseconds of 100 ms), removed afterwards."""
    mounts = files.find_mounts(Path("/"))
    v1 = bool(set(limits) & set(mounts.v1))
    if not v1:
        (Path(mounts.v2) / "cgroup.subtree_control").write_text(" ".join(f"+{c}" for c in limits))
    tops = {mounts.v1[c] for c in ("cpu", "cpuacct", "memory", "pids") if c in mounts.v1} if v1 else {mounts.v2}
    dirs = [Path(top) / name for top in sorted(tops)]
    for one in dirs:
        one.mkdir()
    try:
        for controller, value in limits.items():
            file = (V1_FILES if v1 else V2_FILES)[controller]
            next(d / file for d in dirs if (d / file).exists()).write_text(str(value))
        yield dirs
    finally:
        for one in dirs:
            remove(one)


def remove(group):
    for _ in range(100):
        try:
            return group.rmdir()
        except OSError:  # its last process is just leaving
            time.sleep(0.02)
    raise AssertionError(f"{group} could not be removed")


@contextmanager
def running(dirs, code):
    def enter():
        for one in dirs:
            (one / "cgroup.procs").write_text(str(os.getpid()))

    child = subprocess.Popen([sys.executable, "-c", code], preexec_fn=enter)  # noqa: PLW1509
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def settled(collector, key, least):
    """Values of the first frame in which that series is above `least`, one a second; of the 40th where it never is."""
    builder = FrameBuilder(Catalogue())
    for _ in range(40):
        now = time.time_ns()
        builder.add("cgroups", now, collector.collect(now), 5 * NS)
        frame = builder.build(now)
        values = {s.key: v for s, v in zip(frame.series, frame.values, strict=True)}
        if values.get(key, 0.0) > least:
            break
        time.sleep(1.0)
    return values


@pytest.mark.needs_root
def test_real_quota_shows_throttling():
    name = f"etio-test-cpu-{os.getpid()}"
    with real_group(name, cpu=5000) as dirs, running(dirs, BUSY) as child:  # little: a busy host would give it more
        collector = opened(Path("/"))
        values = settled(collector, f'cgroup_cpu_throttled_ratio{{cgroup="/{name}"}}', 0.5)
        collector.close()
        assert of(values, "cgroup_cpu_throttled_ratio", f"/{name}") > 0.5
        assert of(values, "cgroup_cpu_quota_cores", f"/{name}") == pytest.approx(0.05)
        assert 0.01 < of(values, "cgroup_cpu_usage_cores", f"/{name}") < 0.2
        assert of(values, "cgroup_cpu_throttled_seconds_per_second", f"/{name}") > 0.2
        table = CgroupReader(Path("/")).read(time.time_ns())
        assert child.pid > 0
        mine = next(g for g in table.cgroups if g.path == f"/{name}")
        assert mine.throttled_periods > 5


@pytest.mark.needs_root
def test_real_memory_limit_shows_failures(tmp_path):
    name = f"etio-test-mem-{os.getpid()}"
    code = f"import mmap\nm = mmap.mmap(-1, 64 << 20)\nf = open({str(tmp_path / 'x')!r}, 'w+b')\n" \
           "while True:\n    f.seek(0)\n    [f.write(b'x' * (1 << 20)) for _ in range(24)]\n"
    with real_group(name, memory=16 << 20) as dirs, running(dirs, code):
        collector = opened(Path("/"))
        values = settled(collector, f'cgroup_memory_failures_per_second{{cgroup="/{name}"}}', 1.0)
        collector.close()
    assert of(values, "cgroup_memory_failures_per_second", f"/{name}") > 1
    assert 0 < of(values, "cgroup_memory_used_ratio", f"/{name}") <= 1
    assert of(values, "cgroup_oom_kills_per_second", f"/{name}") == 0


@pytest.mark.needs_root
def test_real_group_that_vanishes_under_the_collector():
    name = f"etio-test-gone-{os.getpid()}"
    collector = opened(Path("/"))
    with real_group(name, pids=100):
        assert of(raw(collector, T0), "cgroup_pids_used_ratio", f"/{name}") == 0
    assert math.isnan(of(raw(collector, T0 + NS), "cgroup_pids_used_ratio", f"/{name}"))
    with real_group(name, pids=50) as dirs, running(dirs, BUSY):
        found = of(raw(collector, T0 + 5 * NS), "cgroup_pids_used_ratio", f"/{name}")
    assert found == pytest.approx(0.02)
    collector.close()


@pytest.mark.needs_root
def test_real_open_files_are_given_back():
    before = len(os.listdir("/proc/self/fd"))
    collector = opened(Path("/"))
    raw(collector)
    collector.close()
    collector.close()
    assert len(os.listdir("/proc/self/fd")) == before
