"""Who is in the groups that alerts speak of, in any hierarchy of cgroup v1."""

import os
import subprocess
from pathlib import Path

import pytest

from collector.cgroup_members import GROUPS, MEMBERS, members


@pytest.fixture
def host(tmp_path: Path) -> Path:
    (tmp_path / "proc/self").mkdir(parents=True)
    lines = [f"{30 + at} 24 0:{at} / /sys/fs/cgroup/{name} rw - cgroup cgroup rw,{name}\n"
             for at, name in enumerate(("blkio", "pids"))]
    (tmp_path / "proc/self/mountinfo").write_text("".join(lines))
    return tmp_path


def put(host: Path, hierarchy: str, group: str, text: str) -> None:
    folder = host / f"sys/fs/cgroup/{hierarchy}{group}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cgroup.procs").write_text(text)


def test_members_of_all_hierarchies_and_of_groups_below(host: Path) -> None:
    put(host, "blkio", "/a", "7\n5\nx\n")
    put(host, "blkio", "/a/b", "9\n")
    put(host, "pids", "/a", "5\n11\n")
    put(host, "pids", "/c", "1\n")
    assert members(host, ["/a", "/a", "/nobody"]) == (("members cgroup=/a", "5 7 9 11"),)


def test_the_root_and_what_climbs_out_are_not_asked_and_all_is_bounded(host: Path) -> None:
    put(host, "blkio", "", "1\n")
    put(host, "blkio", "/many", "\n".join(map(str, range(1, MEMBERS + 50))))
    for number in range(GROUPS + 5):
        put(host, "pids", f"/g{number}", "3\n")
    assert members(host, ["/", "", "a", "/..", "/../blkio/many"]) == ()
    assert len(members(host, ["/many"])[0][1].split()) == MEMBERS
    assert len(members(host, [f"/g{n}" for n in range(GROUPS + 5)])) == GROUPS
    assert members(host / "nothing", ["/many"]) == ()


@pytest.mark.needs_root
@pytest.mark.skipif(not Path("/sys/fs/cgroup/blkio/tasks").exists(), reason="no blkio hierarchy of cgroup v1")
def test_a_real_process_in_a_group_of_one_controller() -> None:
    folder = Path(f"/sys/fs/cgroup/blkio/etio-members-{os.getpid()}")
    folder.mkdir()
    child = subprocess.Popen(["sleep", "600"])
    try:
        (folder / "cgroup.procs").write_text(str(child.pid))
        assert members(Path("/"), [f"/{folder.name}"]) == ((f"members cgroup=/{folder.name}", str(child.pid)),)
    finally:
        child.kill()
        child.wait()
        folder.rmdir()
