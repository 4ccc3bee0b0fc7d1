"""Groups that the freezer holds: written from the kernel's documentation, and real ones."""

import os
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.frozen_groups import Config, FrozenGroups, is_frozen
from etio.core.errors import NoData
from etio.core.event import HostEvent
from etio.core.frame import NS

T = 1_000 * NS


class Host:
    """A host with one hierarchy."""

    def __init__(self, root: Path, v1: bool) -> None:
        self.root, self.v1 = root, v1
        (root / "proc/self").mkdir(parents=True)
        kind, where = ("cgroup", "freezer") if v1 else ("cgroup2", "unified")
        self.top = root / "sys/fs/cgroup" / where
        self.top.mkdir(parents=True)
        options = "rw,freezer" if v1 else "rw"
        (root / "proc/self/mountinfo").write_text(f"30 24 0:9 / /sys/fs/cgroup/{where} rw - {kind} {kind} {options}\n")
        if not v1:
            (self.top / "cgroup.controllers").write_text("cpu memory\n")

    def put(self, group: str, frozen: bool, *pids: int) -> None:
        folder = self.top / group
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
        name, text = (("freezer.state", "FROZEN\n" if frozen else "THAWED\n") if self.v1 else
                      ("cgroup.events", f"populated {int(bool(pids))}\nfrozen {int(frozen)}\n"))
        (folder / name).write_text(text)


@pytest.fixture(params=[True, False], ids=["v1", "v2"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Host:
    return Host(tmp_path, request.param)


def opened(host: Host, **more: float) -> FrozenGroups:
    one = FrozenGroups(Config(**more))  # type: ignore[arg-type]
    one.open(host.root)
    return one


def look(one: FrozenGroups, second: int) -> tuple[float, list[tuple[str, str]]]:
    reading = one.collect(T + second * NS)
    return float(reading.values[0]), [(e.kind, e.entity) for e in reading.events]


def test_a_group_that_stays_frozen_is_told_once_and_so_is_its_end(host: Host) -> None:
    host.put("docker/a", True, 9, 7)
    host.put("docker/b", False, 8)
    (host.root / "proc/7").mkdir()
    (host.root / "proc/7/comm").write_text("pgbouncer\n")
    one = opened(host)
    assert [look(one, t) for t in (0, 10)] == [(1.0, [])] * 2
    (event,) = one.collect(T + 20 * NS).events
    assert (event.kind, event.entity) == ("group_frozen", "cgroup=/docker/a")
    assert dict(event.fields) == {"comm": "pgbouncer", "pid": 7, "processes": 2, "unit": ""}
    assert look(one, 40) == (1.0, [])
    host.put("docker/a", False, 7, 9)
    assert look(one, 50) == (0.0, [("group_thawed", "cgroup=/docker/a")])
    assert look(one, 60) == (0.0, [])


def test_a_snapshot_of_seconds_an_empty_group_and_what_is_held_from_above_are_not_told(host: Host) -> None:
    host.put("brief", True, 5)
    host.put("empty", True)
    host.put("outer", True)
    host.put("outer/inner", True, 6)
    one = opened(host)
    assert look(one, 0)[0] == 2.0
    host.put("brief", False, 5)
    assert look(one, 10) == (1.0, [])
    assert look(one, 40) == (1.0, [("group_frozen", "cgroup=/outer")])


def test_a_frozen_group_that_is_removed_is_over(host: Host) -> None:
    host.put("a", True, 5)
    one = opened(host, lasting_s=5.0)
    look(one, 0)
    assert look(one, 10)[1] == [("group_frozen", "cgroup=/a")]
    for file in (host.top / "a").iterdir():
        file.unlink()
    (host.top / "a").rmdir()
    assert look(one, 45) == (0.0, [("group_thawed", "cgroup=/a")])
    one.close()
    one.close()


def test_a_host_that_cannot_freeze_has_no_data(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text("30 24 0:9 / / rw - ext4 /dev/vda rw\n")
    with pytest.raises(NoData):
        FrozenGroups(Config()).open(tmp_path)


@given(st.one_of(st.none(), st.binary(max_size=80)))
def test_any_bytes_are_borne(raw: bytes | None) -> None:
    assert is_frozen(raw) in (True, False)


@pytest.mark.needs_root
@pytest.mark.skipif(not Path("/sys/fs/cgroup/freezer/tasks").exists(), reason="no freezer hierarchy of cgroup v1")
def test_a_real_group_is_seen_frozen_and_thawed() -> None:
    folder = Path(f"/sys/fs/cgroup/freezer/etio-frozen-{os.getpid()}")
    folder.mkdir()
    child = subprocess.Popen(["sleep", "600"])
    one = FrozenGroups(Config(lasting_s=5.0))
    one.open(Path("/"))

    def told(second: int) -> list[HostEvent]:
        return [e for e in one.collect(T + second * NS).events if e.entity == f"cgroup=/{folder.name}"]

    try:
        (folder / "cgroup.procs").write_text(str(child.pid))
        (folder / "freezer.state").write_text("FROZEN")
        until = time.monotonic() + 60
        while (folder / "freezer.state").read_text() != "FROZEN\n" and time.monotonic() < until:
            time.sleep(0.05)
        assert told(0) == []
        (event,) = told(10)
        assert (event.kind, event.get("comm"), event.get("pid")) == ("group_frozen", "sleep", child.pid)
        (folder / "freezer.state").write_text("THAWED")
        assert [e.kind for e in told(20)] == ["group_thawed"]
    finally:
        (folder / "freezer.state").write_text("THAWED")
        child.kill()
        child.wait()
        one.close()
        folder.rmdir()
