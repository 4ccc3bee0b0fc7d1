"""Inotify limits: counted from open files, told once for each user, never where the count cannot be right."""

import ctypes
import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.ebpf.client import WardenClient, spawn_warden
from collector.ebpf.watches import find_watchers
from collector.inotify import COLLECTOR, Config, Inotify, uses_of
from etio.core.errors import NoData
from etio.core.frame import NS


@pytest.fixture
def host(tmp_path):
    folder = tmp_path / "proc/sys/fs/inotify"
    folder.mkdir(parents=True)
    (folder / "max_user_watches").write_text("1000\n")
    (folder / "max_user_instances").write_text("128\n")
    return tmp_path


def opened(host, rows, whole=True):
    collector = Inotify(Config())
    collector.source = lambda: (list(rows), whole, 0.01)
    collector.open(host)
    return collector


def events(collector, at):
    return [(e.kind, e.entity) for e in collector.collect(at * NS).events]


def test_a_user_at_the_limit_is_told_once_and_so_is_the_end(host):
    rows = [(71, 1000, 1, 980), (72, 1000, 3, 15), (80, 0, 2, 40)]
    collector = opened(host, rows)
    reading = collector.collect(NS)
    assert reading.values.tolist() == [0.995, 4 / 128]
    (event,) = reading.events
    assert (event.kind, event.entity) == ("inotify_exhausted", "uid=1000,what=watches")
    assert (event.get("used"), event.get("limit"), event.get("pid"), event.get("most")) == (995, 1000, 71, 980)
    assert events(collector, 11) == []
    rows[0] = (71, 1000, 1, 930)
    assert events(collector, 21) == [], "not yet enough room"
    rows[0] = (71, 1000, 1, 100)
    assert events(collector, 31) == [("inotify_released", "uid=1000,what=watches")]


def test_instances_have_a_limit_of_their_own_and_users_go_away(host):
    rows = [(71, 1000, 126, 5)]
    collector = opened(host, rows)
    assert events(collector, 1) == [("inotify_exhausted", "uid=1000,what=instances")]
    rows.clear()
    assert events(collector, 11) == [("inotify_released", "uid=1000,what=instances")]


def test_more_than_can_be_is_no_figure(host):
    """Instances that were inherited are in the list of each process that has them."""
    reading = opened(host, [(71, 1000, 100, 5), (72, 1000, 100, 5)]).collect(NS)
    assert not reading.events
    assert not any("instances" in one.name for one in reading.series), "it never had a value"


def test_what_was_not_seen_as_a_whole_is_not_told(host):
    assert events(opened(host, [(71, 1000, 1, 999)], whole=False), 1) == []


def test_while_all_is_well_looks_are_rare_and_values_between_are_missing(host):
    asked = []
    collector = opened(host, [])
    collector.source = lambda: asked.append(1) or ([(71, 0, 1, 5)], True, 0.01)
    for at in range(10, 130, 10):
        last = collector.collect(at * NS).values[0]
    assert len(asked) == 2  # 0.01 s of CPU for 100 s
    assert math.isnan(last)


def test_without_a_warden_there_is_no_data(host):
    with pytest.raises(NoData, match="warden"):
        COLLECTOR.build(Config()).open(host)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 3), st.integers(0, 200), st.integers(0, 2000))),
       st.lists(st.floats(allow_nan=True), min_size=2, max_size=2))
def test_any_rows_add_up(rows, limits):
    uses = uses_of(rows, limits)
    assert sum(u.used for u in uses if u.kind == "watches") == sum(row[3] for row in rows)
    assert all(u.most <= u.used and not u.ratio < 0 for u in uses)


@pytest.fixture
def watching(tmp_path):
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_CLOEXEC)
    if descriptor < 0:
        pytest.skip(f"no inotify instance to be had: {os.strerror(ctypes.get_errno())}")
    for i in range(37):
        (tmp_path / str(i)).mkdir()
        assert libc.inotify_add_watch(descriptor, str(tmp_path / str(i)).encode(), 2) > 0
    yield
    os.close(descriptor)


def test_own_watches_are_counted_as_the_kernel_lists_them(watching):
    rows, _ = find_watchers(budget_s=30.0)
    (mine,) = [row for row in rows if row[0] == os.getpid()]
    assert mine[1] == Path(f"/proc/{os.getpid()}").stat().st_uid
    assert mine[2] >= 1
    assert mine[3] >= 37


@pytest.mark.needs_root
def test_the_warden_sees_those_of_everybody(watching):
    channel, pid = spawn_warden()
    with WardenClient(channel) as warden:
        rows, _, seconds = warden.inotify()
    os.waitpid(pid, 0)
    assert 0 <= seconds < 60
    assert any(row[0] == os.getpid() and row[3] >= 37 for row in rows)
