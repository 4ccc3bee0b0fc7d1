"""Memory programs: compaction, moved pages and writers held back, against ftrace and /proc/vmstat."""

# ruff: noqa: F811 (fixtures of ebpf_rig)

import contextlib
import os
import shutil
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from collector.ebpf import loader, memory
from collector.ebpf.client import Loaded
from collector.ebpf.collector import EbpfCollector
from collector.ebpf.families import HEAVY_TABLE, MEMORY_NODES
from collector.ebpf.groups import GroupNames, GroupSeries, parse_path
from collector.ebpf.heavy import HEAVY, HeavyTable
from collector.ebpf.maps import MappedArray
from tests.ebpf_rig import actors, client, ebpf, of, run, run_loader, sh, start, values  # noqa: F401 (fixtures)

live = [pytest.mark.needs_bpf, pytest.mark.needs_root]
NAMES = ("balance_dirty_pages", "mm_compaction_begin", "mm_compaction_end", "mm_vmscan_kswapd_wake",
         "mm_vmscan_kswapd_sleep", "mm_migrate_pages")


class traced:
    """Lines that ftrace writes about one event while the block runs: the kernel's own account of the tracepoint."""

    def __init__(self, event: str) -> None:
        self.event = event
        self.place = Path(f"/sys/kernel/tracing/instances/etio-memory-{os.getpid()}")
        self.lines: list[str] = []

    def __enter__(self) -> "traced":
        self.place.mkdir()
        (self.place / "events" / self.event / "enable").write_text("1")
        return self

    def __exit__(self, *_: object) -> None:
        (self.place / "events" / self.event / "enable").write_text("0")
        name = self.event.rpartition("/")[2]
        self.lines = [ln for ln in (self.place / "trace").read_text().splitlines() if f" {name}: " in ln]
        self.place.rmdir()

    def of(self, pid: int) -> list[str]:
        """Lines of one process."""
        return [ln for ln in self.lines if f"-{pid} " in ln]


def needs(event: str) -> None:
    if not Path(f"/sys/kernel/tracing/events/{event}").is_dir():
        pytest.skip(f"this kernel has no tracepoint {event}")


COMPACT = "for _ in range(7):\n    open('/proc/sys/vm/compact_memory', 'w').write('1')"


SLACK = 256
"""Pages that are being moved while two accounts of them are read, one after the other."""


def _moved_by_vmstat() -> NDArray[np.float64]:
    found = dict(ln.split() for ln in Path("/proc/vmstat").read_text().splitlines())
    return np.array([float(found["pgmigrate_success"]), float(found["pgmigrate_fail"])])


def _moved(now: dict[str, float]) -> NDArray[np.float64]:
    return np.array([sum(v for k, v in now.items() if k.startswith(f"page_migration{what}_per_second"))
                     for what in ("s", "_failures")])


def _grown(made: EbpfCollector, before: dict[str, float]) -> dict[str, float]:
    return {key: value - before.get(key, 0.0) for key, value in values(made).items()}


class TestLive:
    pytestmark = live

    def test_7_compactions_of_every_zone_and_the_pages_they_move(self, ebpf):
        needs("compaction/mm_compaction_end")
        ebpf.actors(0)
        outer = values(ebpf)
        with traced("compaction/mm_compaction_end") as told:
            inner, vmstat = values(ebpf), _moved_by_vmstat()
            pid, _ = run(COMPACT)
            vmstat, inner = _moved_by_vmstat() - vmstat, _grown(ebpf, inner)
        outer = _grown(ebpf, outer)
        actor = of(actors(ebpf, "compaction"), pid)
        assert actor.count == len(told.of(pid)) >= 7
        key = "compaction_direct_runs_per_second"  # of others, too: on a busy host at any time
        assert inner[key] <= len([ln for ln in told.lines if "kcompactd" not in ln]) <= outer[key]
        assert 0 < actor.amount <= outer["compaction_direct_seconds_per_second"] + 1e-6 < 60
        assert (vmstat - SLACK <= _moved(inner)).all()
        assert (_moved(inner) <= vmstat + SLACK).all()

    def test_a_writer_that_is_held_back_is_counted_and_named(self, ebpf, slow_disk):
        needs("writeback/balance_dirty_pages")
        before = values(ebpf)
        ebpf.actors(0)
        with traced("writeback/balance_dirty_pages") as told:
            pid, _ = run("import sys\nwith open(sys.argv[1], 'wb') as f:\n    for _ in range(96):\n"
                         "        f.write(bytes(1 << 20))\n        f.flush()", str(slow_disk / "big"))
        after = values(ebpf)
        pauses = [int(ln.partition(" pause=")[2].split()[0]) for ln in told.of(pid)]
        pauses = [ms for ms in pauses if ms > 0]
        assert pauses, "nothing was held back"
        actor = of(actors(ebpf, "dirty_wait"), pid)
        assert (actor.count, actor.amount) == (len(pauses), pytest.approx(sum(pauses) / 1e3))
        for name, grown in (("pauses", len(pauses)), ("seconds", sum(pauses) / 1e3)):
            key = f"dirty_throttle_{name}_per_second"
            assert after[key] - before[key] >= grown - 1e-9
        groups = {k: v for k, v in after.items() if k.startswith("cgroup_dirty_throttle_seconds_per_second")}
        assert sum(groups.values()) >= 0.9 * sum(pauses) / 1e3 or sum(pauses) < 10

    def test_the_reclaim_daemon_ran_as_often_as_vmstat_says(self, ebpf):
        needs("vmscan/mm_vmscan_kswapd_wake")

        def runs() -> int:
            return next(int(ln.split()[1]) for ln in Path("/proc/vmstat").read_text().splitlines()
                        if ln.startswith("pageoutrun "))

        outer, before = runs(), values(ebpf)["kswapd_wakes_per_second"]
        inner = runs()
        time.sleep(0.05)
        inner, after = runs() - inner, values(ebpf)["kswapd_wakes_per_second"]
        assert inner - 1 <= after - before <= runs() - outer + 1

    def test_the_group_that_reclaims_is_named(self, ebpf, small_group, tmp_path):
        with (tmp_path / "big").open("wb") as big:
            big.write(b"x" * (96 << 20))
            os.fsync(big.fileno())
            os.posix_fadvise(big.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        before = values(ebpf)
        reading = start("import os, sys\nopen(sys.argv[1] + '/cgroup.procs', 'w').write(str(os.getpid()))\n"
                        "f = open(sys.argv[2], 'rb')\nwhile f.read(1 << 20):\n    pass",
                        str(small_group), str(tmp_path / "big"))
        while reading.poll() is None:
            values(ebpf)
            time.sleep(0.2)
        reading.communicate()
        after = values(ebpf)
        name = "reclaim_memcg_seconds_per_second"
        spent = after[name] - before[name]
        key = f'cgroup_reclaim_seconds_per_second{{cgroup="/{small_group.name}"}}'
        assert spent < 0.1 or 0.3 * spent < after[key] <= spent + 1e-6


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A memory control group of 32 MiB, v1 or v2."""
    v1 = Path("/sys/fs/cgroup/memory")
    group = (v1 if v1.is_dir() else Path("/sys/fs/cgroup")) / f"etio-reclaim-{os.getpid()}"
    group.mkdir()
    limit = group / ("memory.limit_in_bytes" if v1.is_dir() else "memory.max")
    try:
        if not limit.exists():
            pytest.skip("the memory controller is not delegated here")
        limit.write_text(str(32 << 20))
        yield group
    finally:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                group.rmdir()
                break
            except OSError:
                time.sleep(0.1)


@pytest.fixture
def slow_disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system that may have no more than a megabyte dirty."""
    image, mount = tmp_path / "disk.img", tmp_path / "mount"
    with image.open("wb") as file:
        file.truncate(192 << 20)
    with contextlib.ExitStack() as undo:
        device = sh("losetup", "--find", "--show", str(image))
        undo.callback(sh, "losetup", "--detach", device)
        sh("mkfs.ext4", "-q", device)
        mount.mkdir()
        sh("mount", device, str(mount))
        undo.callback(sh, "umount", str(mount))
        number = os.stat(device).st_rdev
        limits = Path(f"/sys/class/bdi/{os.major(number)}:{os.minor(number)}")
        if not (limits / "strict_limit").exists():
            pytest.skip("this kernel has no strict limit of dirty pages per device")
        (limits / "strict_limit").write_text("1")
        (limits / "max_ratio").write_text("1")
        (limits / "max_bytes").write_text(str(1 << 20))
        yield mount


@pytest.fixture
def area() -> Iterator[int]:
    """Descriptor of memory that stands in for the map of the family."""
    fd = os.memfd_create("etio-test")
    os.ftruncate(fd, 1 << 18)
    yield fd
    os.close(fd)


def reader(area: int, root: Path, programs: tuple[str, ...] = NAMES) -> memory.Reader:
    entry = {"name": "memory", "root": root, "programs": [{"name": n} for n in programs], "hierarchy": "v2",
             "symbols": {"mm_migrate_pages": {"0": "compaction", "5": "numa_misplaced"}}}
    return memory.Reader(MappedArray(area, 1 << 18), entry, 1)


def told(made: memory.Reader) -> dict[str, float]:
    read = made.read()
    return dict(zip([s.key for s in made.series], read, strict=True))


def test_a_reclaim_daemon_that_does_not_sleep_is_awake(area, tmp_path):
    made = reader(area, tmp_path)
    assert told(made)["kswapd_active_seconds_per_second"] == 0
    since = time.clock_gettime_ns(time.CLOCK_MONOTONIC) - 3 * 10**9
    os.pwrite(area, struct.pack("<QQQQ", 2, 5 * 10**9, since, 0), 3 * HEAVY_TABLE + 64 + 32)
    now = told(made)
    assert now["kswapd_wakes_per_second"] == 2
    assert 8 <= now["kswapd_active_seconds_per_second"] < 60
    os.pwrite(area, struct.pack("<QQQQ", 2, 5 * 10**9, 0, 0), 3 * HEAVY_TABLE + 64 + 32)  # a torn reading
    assert told(made)["kswapd_active_seconds_per_second"] == now["kswapd_active_seconds_per_second"]


def test_pages_moved_are_named_by_the_kernels_reasons(area, tmp_path):
    made = reader(area, tmp_path)
    assert not any("migration" in key for key in told(made))
    os.pwrite(area, struct.pack("<QQ", 11, 3), 3 * HEAVY_TABLE + 64 + 32 * MEMORY_NODES + 16 * 5)
    os.pwrite(area, struct.pack("<QQ", 7, 0), 3 * HEAVY_TABLE + 64 + 32 * MEMORY_NODES + 16 * 15)
    now = told(made)
    assert now['page_migrations_per_second{reason="numa_misplaced"}'] == 11
    assert now['page_migration_failures_per_second{reason="numa_misplaced"}'] == 3
    assert now['page_migrations_per_second{reason="other"}'] == 7


def test_what_a_kernel_does_not_tell_has_no_series(area, tmp_path):
    made = reader(area, tmp_path, ("mm_vmscan_kswapd_wake", "mm_vmscan_kswapd_sleep"))
    assert [s.name for s in made.series] == ["kswapd_wakes_per_second", "kswapd_active_seconds_per_second",
                                             "memory_groups_left_out"]
    assert len(made.read()) == 3


def test_a_group_is_named_by_a_process_and_proved_by_its_inode(tmp_path):
    top = tmp_path / "sys/fs/cgroup"
    (top / "work.slice").mkdir(parents=True)
    for pid, text in (("self", ""), ("7", "0::/work.slice\n"), ("8", "0::/../work.slice\n"), ("9", "4:memory:/x\n")):
        (tmp_path / "proc" / pid).mkdir(parents=True)
        (tmp_path / "proc" / pid / "cgroup").write_text(text)
    (tmp_path / "proc/self/mountinfo").write_text("30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
    names = GroupNames(tmp_path, "v2", "memory")
    number = (top / "work.slice").stat().st_ino
    assert names.path(number + 1, 7) == ""  # the process has moved on, or its pid is another's
    assert names.path(number, 9) == ""
    assert names.path(number, 7) == "/work.slice"
    assert names.path(number, 4711) == "/work.slice"  # once known, always known


def test_a_group_whose_processes_are_gone_is_looked_for_once_a_minute(tmp_path):
    top = tmp_path / "sys/fs/cgroup"
    (top / "a/b").mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text("30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
    names = GroupNames(tmp_path, "v2", "memory")
    assert names.look((top / "a/b").stat().st_ino, 0.0) == "/a/b"
    assert names.look(top.stat().st_ino, 1.0) == "/"
    (top / "a/c").mkdir()
    assert names.look((top / "a/c").stat().st_ino, 59.0) == ""
    assert names.look((top / "a/c").stat().st_ino, 60.0) == "/a/c"


def test_every_bytes_is_a_path_or_none():
    assert parse_path(b"4:cpu,cpuacct:/a:b\n0::/\n", "cpuacct") == b"/a:b"
    assert parse_path(b"\xff:\n::\n4:cpu", "cpu") == b""


class Fixed(GroupNames):
    """Knows every group of an even number."""

    def __init__(self) -> None:
        pass

    def path(self, number: int, pid: int) -> str:
        return "" if number % 2 else f"/{number}"

    def look(self, number: int, now_s: float) -> str:
        return ""


def test_a_group_gets_a_series_when_it_matters_and_the_cap_is_told(area):
    mapped = MappedArray(area, 1 << 18)
    groups = GroupSeries("wait", HeavyTable(mapped, 0), Fixed())
    rows = np.zeros(100, dtype=HEAVY)
    rows["key"], rows["count"] = np.arange(100) + 1, 1
    rows["amount"] = np.where(np.arange(100) < 4, 5_000_000, 20_000_000)
    os.pwrite(area, rows.tobytes(), 0)
    series, values_ = [], []
    groups.step(series, values_)
    assert len(series) == len(values_) == 32
    assert groups.left_out == 48 - 32
    assert '/2"' not in "".join(s.key for s in series)
    rows["amount"] += 1_000_000_000
    rows["count"] += 1
    os.pwrite(area, rows.tobytes(), 0)
    groups.step(series, values_)
    assert values_ == [pytest.approx(1.02)] * 32


@pytest.mark.needs_bpf
@pytest.mark.needs_root
def test_a_tracepoint_that_is_missing_costs_its_own_series_and_no_more(tmp_path):
    """As on a kernel without it: an optional one is told as missing, one that is needed takes its family with it."""
    copy = tmp_path / "collector/ebpf"
    shutil.copytree(Path(loader.__file__).parent, copy)
    for old, new in (("migrate:mm_migrate_pages", "migrate:never_was"), ("block:block_rq_issue", "block:never_was")):
        text = (copy / "families.py").read_text()
        assert old in text
        (copy / "families.py").write_text(text.replace(old, new))
    made = EbpfCollector(Loaded(*run_loader("--only", "block,memory,sched", script=str(copy / "loader.py"))))
    made.open(Path("/"))
    try:
        states = {f.name: f for f in made.families()}
        assert (states["block"].on, states["block"].reason) == (False, "this kernel has no tracepoint block:never_was")
        assert states["memory"].on
        assert states["memory"].missing == ("this kernel has no tracepoint migrate:never_was",)
        assert all(f.on for name, f in states.items() if name != "block")
        assert "dirty_throttle_seconds_per_second" in values(made)
    finally:
        made.close()
