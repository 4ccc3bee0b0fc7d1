"""Hosts that are not ours: what is hidden is told with its remedy, and no number of another name space is believed."""

import io
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from collector.ebpf import oom, warden
from collector.ebpf.client import Loaded
from collector.ebpf.collector import EbpfCollector
from collector.hostinfo import host_info
from collector.kernel_clock import monotonic_ns, parse_offset
from detectors.state import from_bytes, to_bytes
from etio import show
from etio.core.errors import NoData
from etio.core.facts import Actor, ActorTable
from etio.core.frame import Reading
from etio.core.series import Series
from etio.daemon.doctor import examine
from etio.daemon.ebpf import foreign
from etio.daemon.oom import Counted
from etio.daemon.rootless import barrier, is_mapped, lacking
from etio.daemon.sight import PID_INIT, limits, own_pids
from rca.culprits import numbered

STATUS = {"ready": True, "reasons": [], "tier": "T1", "tier_reason": "", "model": "switched off", "collectors": []}
NOT_PERMITTED = "Operation not permitted; remedy: give the warden CAP_BPF"


# -- clocks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("raw", "ahead"), [
    (b"monotonic           0         0\nboottime            0         0\n", 0),
    (b"monotonic    50000000         7\nboottime    100000000         0\n", 50_000_000 * 10**9 + 7),
    (b"monotonic       -5000 500000000\nboottime            9         0\n", -5000 * 10**9 + 500_000_000),
    (b"1 12 0\n7 99 0\n", 12 * 10**9),
    (b"", 0),
    (b"boottime 5 0\n", 0),
])
def test_the_shift_of_a_time_namespace_is_read(raw, ahead):
    assert parse_offset(raw) == ahead


@given(st.binary(max_size=80))
def test_any_offsets_are_read(raw):
    assert isinstance(parse_offset(raw), int)


def test_the_clock_of_the_kernel_runs():
    first = monotonic_ns()
    assert 0 < first <= monotonic_ns()
    assert abs(first - time.monotonic_ns()) < 10**9 or parse_offset(Path("/proc/self/timens_offsets").read_bytes())


def test_what_was_learned_is_kept_before_1980_too(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 600.0)
    state = from_bytes(to_bytes({"t_ns": 600, "part": {"x": np.array([1.0, 2.0])}}))
    assert state["t_ns"] == 600
    assert state["part"]["x"].tolist() == [1.0, 2.0]


# -- what is hidden ---------------------------------------------------------------------------------------------------


def host(root: Path, *, first: bool = True, net: tuple[str, ...] = ("somaxconn", "netdev_max_backlog")) -> Path:
    (root / "proc/1").mkdir(parents=True)
    (root / "proc/stat").write_text("cpu 1 2 3 4\n")
    if first:
        (root / "proc/1/stat").write_text("1 (systemd) S 0\n")
    core = root / "proc/sys/net/core"
    core.mkdir(parents=True)
    for name in net:
        (core / name).write_text("1\n")
    return root


def link(folder: Path, target: str) -> Path:
    path = folder / "pid-link"
    path.symlink_to(target)
    return path


def test_on_a_host_nothing_is_hidden(tmp_path):
    assert limits(host(tmp_path), link(tmp_path, PID_INIT)) == ()


def test_a_container_says_that_it_is_one(tmp_path):
    found = limits(host(tmp_path, net=("somaxconn",)), link(tmp_path, "pid:[4026532999]"))
    assert [f.name for f in found] == ["all_processes", "all_networks"]
    assert all(f.state == "nodata" and f.remedy for f in found)
    assert "--pid=host" in found[0].remedy
    assert own_pids(tmp_path / "pid-link")


def test_hidden_processes_are_told(tmp_path):
    (found,) = limits(host(tmp_path, first=False), link(tmp_path, PID_INIT))
    assert "hidepid" in found.reason
    assert "gid=" in found.remedy


def test_without_proc_nothing_is_claimed(tmp_path):
    assert limits(tmp_path, tmp_path / "nowhere") == ()


def test_process_ids_of_the_host_are_no_process_of_ours():
    table = foreign(ActorTable(1, 2, (Actor("fork", "make", 7, 1, count=3.0), Actor("retransmit", "10.0.0.2:80"))))
    assert [(a.name, a.pid, a.ppid) for a in table.actors] == [("make", -7, -1), ("10.0.0.2:80", 0, 0)]
    assert (numbered(7), numbered(-7)) == ("pid 7", "pid 7 of the host")


def test_the_group_of_another_program_with_its_number_is_not_the_victims(tmp_path):
    folder = tmp_path / "proc/4711"
    folder.mkdir(parents=True)
    (folder / "cgroup").write_text("5:memory:/shop\n")
    (folder / "comm").write_text("nginx\n")
    assert oom._memory_cgroup(folder, "nginx") == "/shop"
    assert oom._memory_cgroup(folder, "hog") == ""


def test_a_host_name_cannot_steer_a_terminal(tmp_path):
    (tmp_path / "proc/sys/kernel").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/hostname").write_bytes(b"ho\"st<b>\x1b[31m\xff\n")
    assert host_info(tmp_path).name == "ho\"st<b>\ufffd[31m\ufffd"


# -- what is not permitted --------------------------------------------------------------------------------------------


def test_one_reason_of_all_families_is_told_once():
    names = ("sched", "block", "net")
    families = [{"name": n, "reason": f"create map etio_{n}: {NOT_PERMITTED}", "missing": []} for n in names]
    with pytest.raises(NoData) as caught:
        EbpfCollector(Loaded({"families": families, "cpus": 1}, ())).open(Path("/"))
    assert str(caught.value) == f"eBPF: sched, block, net: create map: {NOT_PERMITTED}"


def test_a_remedy_that_is_named_stands_in_its_column():
    absent = {"name": "kmsg", "state": "nodata", "reason": "/dev/kmsg: no; remedy: start as root", "remedy": "",
              "series": 0}
    rows = {r["part"]: r for r in examine({**STATUS, "tier": "T2", "tier_reason": f"eBPF: {NOT_PERMITTED}",
                                           "collectors": [absent]})}
    assert rows["eBPF"]["what"] == "eBPF: Operation not permitted"
    assert rows["eBPF"]["remedy"] == "give the warden CAP_BPF"
    assert (rows["collector kmsg"]["what"], rows["collector kmsg"]["remedy"]) == ("/dev/kmsg: no", "start as root")
    old = {r["part"]: r for r in examine({**STATUS, "tier": "T2", "tier_reason": "no idea"})}
    assert "start as root" in old["eBPF"]["remedy"]


def test_no_path_is_cut_off_in_a_narrow_terminal(monkeypatch):
    narrow = Console(file=io.StringIO(), width=60)
    monkeypatch.setattr(show, "console", narrow)
    show.doctor([{"part": "BTF", "state": "good", "what": "/sys/kernel/btf/" + "x" * 60, "remedy": "y" * 50}])
    assert "…" not in narrow.file.getvalue()
    assert narrow.file.getvalue().count("x") == 60


@pytest.mark.parametrize(("status", "says"), [
    (9, "leave etio 250 MB"), (3 << 8, "status 3"), (11, "status -11"), (0, "status 0")])
def test_a_loader_that_is_killed_is_told(status, says):
    assert says in warden._how_it_ended(status)


def ours(folder: Path, table: str) -> Path:
    for name in ("uid_map", "gid_map"):
        (folder / name).write_text(table)
    return folder


def test_root_without_capabilities_is_told_what_to_do(tmp_path):
    everything = (1 << 41) - 1
    whole = ours(tmp_path, "         0          0 4294967295\n")
    assert barrier(everything, 65534, 65534, whole) == ""
    assert lacking(everything & ~(1 << 7)) == ["CAP_SETUID"]
    told = barrier(0, 65534, 65534, whole)
    assert "CAP_CHOWN, CAP_SETGID, CAP_SETUID" in told
    assert "ordinary user" in told
    assert "user namespace" in barrier(everything, 65534, 65534, ours(tmp_path, "0 1000 1\n"))
    assert barrier(everything, 65534, 65534, tmp_path / "nowhere") == ""


@given(st.text(alphabet="0123456789 -x\n", max_size=60), st.integers(0, 2**32))
def test_any_map_of_users_is_read(table, number):
    assert is_mapped(table, number) in (True, False)
    assert is_mapped(f"{table}\n0 0 4294967297", number)


# -- kills that nobody names ------------------------------------------------------------------------------------------

OOM = Series("vm_oom_kills_per_second", "1/s", "counter")
OTHER = Series("vm_page_faults_per_second", "1/s", "counter")


def reading(count: float) -> Reading:
    return Reading([OTHER, OOM], np.array([5.0, count]))


def test_kills_are_counted_where_nobody_names_the_victims():
    counted = Counted(lambda: False)
    assert counted.take(1, reading(3.0)) == ()
    assert counted.take(2, reading(3.0)) == ()
    (event,) = counted.take(3, reading(5.0))
    assert (event.kind, event.entity, event.get("kills"), event.t_ns) == ("oom_kill", "host", 2, 3)
    assert counted.take(4, reading(float("nan"))) == counted.take(5, reading(9.0)) == ()
    assert counted.take(6, Reading([OTHER], np.array([1.0]))) == ()


def test_kills_that_are_named_are_not_told_twice():
    counted = Counted(lambda: True)
    counted.take(1, reading(0.0))
    assert counted.take(2, reading(1.0)) == ()
