"""What is usual on a host outlives a restart; collectors that watch are adopted and fed."""

import json

import pytest

from collector.behaviour import Behaviour, Config
from collector.crash_loops import Config as CrashConfig
from collector.crash_loops import CrashLoops
from collector.ports import COLLECTOR as PORTS
from collector.udp_sockets import COLLECTOR as UDP
from etio.core.facts import Actor, ActorTable, Process, ProcessTable
from etio.core.frame import NS
from etio.daemon.watchers import NAME, HabitState, Watchers
from etio.store.config import StoreConfig
from etio.store.store import open_store

TABLE = ProcessTable(5 * NS, (Process(7, 1, "nginx", start_s=1.0, rss_bytes=1e6),))


@pytest.fixture
def store(tmp_path):
    one = open_store(StoreConfig(directory=str(tmp_path / "state")))
    yield one
    one.close()


def fed(tmp_path):
    (tmp_path / "proc/net").mkdir(parents=True, exist_ok=True)
    one = Behaviour(Config())
    one.open(tmp_path)
    one.take(TABLE)
    one.collect(5 * NS)
    return one


def test_what_was_learned_is_there_after_a_restart(store, tmp_path):
    HabitState(store, fed(tmp_path)).close()
    fresh = Behaviour(Config())
    assert HabitState(store, fresh).restore()
    assert fresh.snapshot()["kinds"]["program"] == {"nginx": 5 * NS}


def test_without_a_snapshot_or_with_a_damaged_one_it_learns_anew(store, tmp_path):
    one = fed(tmp_path)
    before = one.snapshot()
    assert not HabitState(store, one).restore()
    for damaged in (b"", b"\xff", b"[]", b"{", json.dumps({"kinds": 1}).encode(), b"[" * 100_000):
        store.save_state(NAME, damaged)
        assert not HabitState(store, one).restore()
    assert one.snapshot() == before


def test_collectors_are_adopted_and_fed():
    watchers = Watchers(lambda pid: "/dev/shm/x", lambda inodes: {1: 2})
    behaviour, crashes = Behaviour(Config()), CrashLoops(CrashConfig())
    udp, ports = UDP.build(UDP.config()), PORTS.build(PORTS.config())
    for one in (behaviour, crashes, udp, ports):
        watchers.adopt(one)
    assert (watchers.behaviour, watchers.crashes) == (behaviour, crashes)
    assert behaviour.exe_of is not None
    assert udp.owners([1]) == ports.owners([1]) == {1: 2}
    assert watchers.take(TABLE) is TABLE
    table = ActorTable(0, 9 * NS, (Actor("failure", "worker", ppid=7, count=3, amount=3),))
    read = watchers.actors(lambda t_ns: table)
    assert read(9 * NS) is table
    watchers.actors(lambda t_ns: None)(10 * NS)
    assert not [e for e in crashes.collect(10 * NS).events]
