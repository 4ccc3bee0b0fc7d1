"""What changed: each kind of change is told once, with what it was before; nothing is told at the start."""

import os
import shutil
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.changes import COLLECTOR, KNOBS, PACKAGES, Changes, Config, parse_dpkg_log, parse_knob, read_clocks
from etio.core.errors import NoData
from etio.core.frame import NS
from rca.cards import load_cards

MOUNT = "{} 1 {} / {} rw - {} {} rw\n"
BASE = (MOUNT.format(20, "8:1", "/", "ext4", "/dev/sda1") + MOUNT.format(21, "0:5", "/proc", "proc", "proc")
        + MOUNT.format(22, "0:6", "/sys/fs/cgroup", "cgroup2", "cgroup2"))


def write(root, path, text):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


@pytest.fixture
def root(tmp_path):
    write(tmp_path, "proc/self/mountinfo", BASE)
    write(tmp_path, "proc/sys/vm/swappiness", "60\n")
    write(tmp_path, "sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n")
    write(tmp_path, "var/lib/dpkg/status", "Package: a\n")
    write(tmp_path, "var/log/dpkg.log", "2026-01-01 10:00:00 install old:amd64 <none> 1\n")
    for unit in ("system.slice/ssh.service", "system.slice/db.slice/pg.service", "user.slice/session-3.scope"):
        (tmp_path / "sys/fs/cgroup" / unit).mkdir(parents=True)
    return tmp_path


class Clock:
    def __init__(self):
        self.boot, self.wall, self.late = 0, 10**18, 0

    def __call__(self):
        self.boot += 5 * NS
        self.wall += 5 * NS
        return self.boot, self.wall, self.boot + self.late


@pytest.fixture
def look(root):
    clock = Clock()
    changes = Changes(Config(), clock)
    changes.open(root)
    times = iter(range(5, 10**6, 5))

    def look():
        reading = changes.collect(next(times) * NS)
        assert len(reading.series) == 0
        look.within = {e.get("within_s") for e in reading.events}
        return [(e.kind, e.entity, tuple(f for f in e.fields if f[0] != "within_s")) for e in reading.events]

    look.clock = clock
    assert look() == []
    return look


def test_nothing_is_told_while_nothing_changes(look):
    assert [look() for _ in range(5)] == [[]] * 5


def test_a_setting(look, root):
    write(root, "proc/sys/vm/swappiness", "10\n")
    write(root, "sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n")
    assert look() == [("sysctl_changed", "knob=vm.swappiness", (("before", "60"), ("after", "10"))),
                      ("sysctl_changed", "knob=transparent_hugepage.enabled",
                       (("before", "madvise"), ("after", "always")))]
    assert look.within == {5.0}, "it happened since the last look, nobody knows when"
    assert look() == []
    write(root, "proc/sys/vm/nr_hugepages", "5\n")  # seen for the first time (a module came): no change
    assert look() == []


def test_mounts_come_and_go(look, root):
    new = MOUNT.format(30, "7:0", "/srv/a\\040b", "ext4", "/dev/loop0")
    dull = MOUNT.format(31, "0:9", "/var/lib/docker/x", "ext4", "b") + MOUNT.format(32, "0:8", "/x", "tracefs", "t")
    write(root, "proc/self/mountinfo", BASE + new + dull)
    assert look() == [("mount_added", "device=/dev/loop0,mount=/srv/a b,type=ext4", ())]
    write(root, "proc/self/mountinfo", "garbage")
    assert look() == []
    write(root, "proc/self/mountinfo", BASE)
    assert look() == [("mount_removed", "device=/dev/loop0,mount=/srv/a b,type=ext4", ())]


def test_packages_are_told_once_when_the_manager_is_done(look, root):
    log = (root / "var/log/dpkg.log").read_text()
    for i in range(3):
        os.utime(root / "var/lib/dpkg/status", ns=(i, 10**18 + i))
        assert look() == []
    write(root, "var/log/dpkg.log", log + "2026-01-02 10:00:00 upgrade nginx:amd64 1.18 1.22\n"
          "2026-01-02 10:00:01 status installed nginx:amd64 1.22\n2026-01-02 10:00:02 remove vim:all 9 <none>\n")
    assert look() == [("packages_changed", "database=dpkg",
                       (("packages", 2), ("what", "upgrade nginx 1.18 to 1.22; remove vim 9")))]
    assert look() == []
    found = []
    for i in range(12):  # a long run is told while it lasts
        os.utime(root / "var/lib/dpkg/status", ns=(i, 2 * 10**18 + i))
        found += look()
    assert [kind for kind, *_ in found] == ["packages_changed"]


def test_a_step_of_the_clock(look):
    look.clock.wall += 3 * NS
    assert look() == [("clock_step", "host", (("seconds", 3.0),)), ("clock_jumped", "host", (("seconds", 3.0),))]
    look.clock.wall -= NS // 2
    assert look() == [("clock_step", "host", (("seconds", -0.5),))]
    look.clock.wall += NS // 100
    assert look() == []
    look.clock.wall, look.clock.late = look.clock.wall + 3 * NS, NS  # we were off the CPU between the two clocks
    assert look() == []


def test_services_start_stop_and_start_again(look, root):
    slices = root / "sys/fs/cgroup/system.slice"
    (slices / "web,x.service").mkdir()
    (root / "sys/fs/cgroup/user.slice/session-4.scope").mkdir()
    assert look() == [("unit_started", "unit=web?x.service", (("cgroup", "/system.slice/web,x.service"),))]
    (slices / "db.slice/pg.service").rename(slices / "gone")
    (slices / "db.slice/pg.service").mkdir()  # another inode
    shutil.rmtree(slices / "ssh.service")
    assert look() == [("unit_restarted", "unit=pg.service", (("cgroup", "/system.slice/db.slice/pg.service"),)),
                      ("unit_stopped", "unit=ssh.service", (("cgroup", "/system.slice/ssh.service"),))]


def test_many_changes_are_told_in_part_and_counted(look, root):
    for i in range(50):
        (root / f"sys/fs/cgroup/system.slice/u{i}.service").mkdir()
    found = look()
    assert len(found) == 10
    assert found[-1][2][-1] == ("not_told", 40)


def test_every_setting_that_a_card_speaks_of_is_watched():
    named = {card.get.key for card in load_cards() if card.get is not None and card.get.kind == "sysctl"}
    assert named
    assert named <= set(KNOBS)


def test_on_this_host_it_is_cheap_and_quiet():
    changes = COLLECTOR.build(COLLECTOR.config())
    changes.open(Path("/"))
    changes.collect(1)
    begin = time.thread_time()
    for t in range(2, 22):
        changes.collect(t * NS)
    assert (time.thread_time() - begin) / 20 < 0.01
    assert changes._knobs["vm.swappiness"] == Path("/proc/sys/vm/swappiness").read_text().strip()
    before, wall, after = read_clocks()
    assert 0 <= after - before < NS
    assert abs(wall - time.time_ns()) < 5 * NS
    assert any(Path("/", p).exists() for p in PACKAGES.values())


def test_no_proc_is_no_data(tmp_path):
    with pytest.raises(NoData):
        Changes(Config()).open(tmp_path)
    with pytest.raises(ValueError, match="most"):
        Config(most=0)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_and_a_log(raw):
    assert len(parse_knob(raw)) <= 80
    assert parse_knob(raw).isprintable()
    assert all(line.isprintable() for line in parse_dpkg_log(raw))
    assert parse_dpkg_log(b"d t install " + raw.replace(b"\n", b"").replace(b" ", b"") + b"x 1 2\n") is not None
