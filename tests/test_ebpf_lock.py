"""Waits for kernel locks, every one counted against ftrace; off unless asked for."""

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.ebpf import loader, protocol
from collector.ebpf.client import SYSTEM_PYTHON, Loaded, WardenClient, spawn_warden
from collector.ebpf.collector import EbpfCollector
from collector.ebpf.lock import kind_of
from collector.ebpf.protocol import MAX_FDS, MAX_REPLY
from etio.daemon.config import DaemonConfig
from tests.ebpf_rig import actors, run, values

MUTEX = 'lock_waits_per_second{kind="mutex"}'
SECONDS = 'lock_wait_seconds_per_second{kind="mutex"}'
live = [pytest.mark.needs_bpf, pytest.mark.needs_root]


def load(*options: str) -> EbpfCollector:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        subprocess.run([SYSTEM_PYTHON, "-I", loader.__file__, "--fd", str(theirs.fileno()), *options],
                       pass_fds=[theirs.fileno()], check=True, timeout=60)
        data, descriptors, _, _ = socket.recv_fds(ours, MAX_REPLY, MAX_FDS)
    made = EbpfCollector(Loaded(json.loads(data), tuple(descriptors)))
    made.open(Path("/"))
    return made


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

    def test_every_wait_is_the_one_that_ftrace_saw(self, trace):
        """Counted between two moments of ftrace, so never more than it saw; and by process, where it waited often."""
        made = load("--with", "1", "--every", "1")
        try:
            made.actors(0)
            (trace / "events/lock/contention_begin/enable").write_text("1")
            before, pids = values(made), set()
            for _ in range(5):
                pids |= {int(word) for word in run(CONTEND)[1].split()}
                after = values(made)
                if after.get(MUTEX, 0) - before.get(MUTEX, 0) >= 29:
                    break
            (trace / "events/lock/contention_begin/enable").write_text("0")
            lines = [ln for ln in (trace / "trace").read_text().splitlines() if "MUTEX" in ln]
            lines = [ln for ln in lines if "(flags=MUTEX)" not in ln]
            assert len(lines) - 8 <= after.get(MUTEX, 0) - before.get(MUTEX, 0) <= len(lines)
            assert 0 <= after.get(SECONDS, 0) - before.get(SECONDS, 0) < 120
            found = {a.pid: a.count for a in actors(made, "lock_wait") if a.device == "mutex" and a.count >= 29}
            for pid in pids & set(found):
                seen = sum(f"-{pid} " in ln for ln in lines)
                assert 0.9 * seen - 4 <= found[pid] <= seen
        finally:
            made.close()

    def test_the_warden_loads_it_for_the_daemon(self):
        channel, pid = spawn_warden()
        with WardenClient(channel) as client:
            made = EbpfCollector(client.load(("lock",)))
            made.open(Path("/"))
            assert {f.name: f.on for f in made.families()}["lock"]
            made.close()
        os.waitpid(pid, 0)


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
