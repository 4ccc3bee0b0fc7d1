"""Waits for kernel locks, every one counted against ftrace; off unless asked for."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.ebpf import loader, protocol
from collector.ebpf.client import WardenClient, spawn_warden
from collector.ebpf.collector import EbpfCollector
from collector.ebpf.lock import kind_of
from etio.daemon.config import DaemonConfig
from tests.ebpf_rig import RAN, actors, run, values

MUTEX = 'lock_waits_per_second{kind="mutex"}'
SECONDS = 'lock_wait_seconds_per_second{kind="mutex"}'
SLACK = 4
live = [pytest.mark.needs_bpf, pytest.mark.needs_root]


@pytest.fixture
def locks() -> Iterator[EbpfCollector]:
    """All families and that of locks, as the daemon gets them from the warden."""
    channel, pid = spawn_warden()
    with WardenClient(channel) as client:
        made = EbpfCollector(client.load(("lock",)))
        made.open(Path("/"))
        yield made
        made.close()
    os.waitpid(pid, 0)


@pytest.fixture
def trace() -> Iterator[Path]:
    """A private trace buffer: the kernel's own account of the waits."""
    place = Path(f"/sys/kernel/tracing/instances/etio-lock-{os.getpid()}")
    place.mkdir()
    (place / "buffer_size_kb").write_text("16384")
    yield place
    (place / "events/lock/contention_begin/enable").write_text("0")
    place.rmdir()


# Writers of one pipe take turns at its mutex, which each holds while it copies.
CONTEND = """
    import os
    r, w = os.pipe()
    children = []
    for _ in range(3):
        children.append(os.fork())
        if not children[-1]:
            os.close(r)
            for i in range(211):
                os.write(w, b"x" * 65536)
            os._exit(0)
    os.close(w)
    while os.read(r, 1 << 16):
        pass
    for pid in children:
        os.waitpid(pid, 0)
    print(*children)
"""


class TestLive:
    pytestmark = live

    @pytest.fixture(autouse=True)
    def _tracepoint(self) -> None:
        if not Path("/sys/kernel/tracing/events/lock/contention_begin").is_dir():
            pytest.skip("this kernel has no tracepoint lock:contention_begin (Linux 5.19)")

    def test_every_wait_is_the_one_that_ftrace_saw(self, trace, locks):
        """Read outside, then inside of the time in which ftrace counts; by process one in eight stands for all."""
        assert {f.name: f.on for f in locks.families()}["lock"]
        locks.actors(0)
        enable = trace / "events/lock/contention_begin/enable"
        moments = [values(locks)]
        enable.write_text("1")
        moments.append(values(locks))
        for _ in range(5):
            run(CONTEND)
            after = values(locks)
            if after.get(MUTEX, 0) - moments[1].get(MUTEX, 0) >= 29:
                break
        enable.write_text("0")
        moments += [after, values(locks)]
        lines = [ln for ln in (trace / "trace").read_text().splitlines() if "MUTEX" in ln and "(flags=MUTEX)" not in ln]
        outer, first, last, end = (one.get(MUTEX, 0) for one in moments)
        assert last - first - SLACK <= len(lines)
        assert RAN * len(lines) <= end - outer + SLACK
        assert 0 <= moments[3].get(SECONDS, 0) - moments[0].get(SECONDS, 0) < 120
        found = [a for a in actors(locks, "lock_wait") if a.device == "mutex"]
        assert all(a.count % 8 == 0 for a in found)
        assert sum(a.count for a in found) <= 1.5 * len(lines) + 64


def test_kinds_of_locks():
    assert {kind_of(flags) for flags in range(64)} == {
        "spinlock", "rwlock", "mutex", "rwsem", "percpu_rwsem", "rtmutex", "semaphore"}


def test_the_configuration_names_what_there_is():
    assert DaemonConfig(ebpf_on_demand=("lock",)).ebpf_on_demand == ("lock",)
    with pytest.raises(ValueError, match="no family locks; known: lock"):
        DaemonConfig(ebpf_on_demand=("locks",))


def test_numbers_of_families_are_all_that_is_asked_for():
    asked = protocol.Request("load", (1,))
    assert protocol.decode(protocol.encode(asked)) == asked
    for bad in ("[]", '["lock"]', "[99]", "1", "[true]"):
        with pytest.raises(protocol.Refused):
            protocol.decode(b'{"do": "load", "families": ' + bad.encode() + b"}")
    assert (loader.demanded("1"), loader.demanded("7"), loader.demanded("")) == (("lock",), (), ())
