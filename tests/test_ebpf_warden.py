"""The warden: a closed list of requests, garbage survived, one person let in."""

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.ebpf import protocol, warden
from collector.ebpf.client import SYSTEM_PYTHON, WardenClient, connect_warden, spawn_warden
from etio.core.errors import Broken, NoData
from tests.daemon_rig import wait_for

JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4))
NEAR = st.fixed_dictionaries({"do": st.sampled_from(["ping", "load", "io", "stack", "open_kmsg", "socket_owners",
                                                     "run", "load_family", "unload_family", "writers"])},
                             optional={"device": JSON, "families": JSON, "pid": JSON, "pids": JSON, "inodes": JSON,
                                       "path": JSON, "family": JSON})
pytestmark = pytest.mark.skipif(not Path(SYSTEM_PYTHON).exists(), reason=f"no {SYSTEM_PYTHON}")


@given(st.binary(max_size=100) | (JSON | NEAR).map(lambda v: json.dumps(v).encode()))
def test_any_bytes_are_a_request_of_the_list_or_refused(data):
    try:
        request = protocol.decode(data)
    except protocol.Refused:
        return
    assert hasattr(warden.Session, f"_do_{request.do}")
    most = protocol.MAX_INODE if request.do in ("socket_owners", "writers") else protocol.MAX_PID
    assert all(type(one) is int and 0 < one <= most for one in request.pids)
    assert protocol.decode(protocol.encode(request)) == request


@pytest.mark.parametrize("data", [
    b'{"do": "io", "pids": ["../../etc/shadow"]}', b'{"do": "stack", "pid": true}', b'{"do": "stack", "pid": -1}',
    b'{"do": "ping", "path": "/etc/shadow"}', b'{"do": "stack", "pid": 1.0}', b'{"do": "io", "pids": ' +
    json.dumps(list(range(1, 66))).encode() + b"}", b'"ping"', b"", b"[" * 2000, b" " * 3000 + b"{}",
])
def test_what_is_not_in_the_list_is_refused(data):
    with pytest.raises(protocol.Refused):
        protocol.decode(data)


@pytest.fixture
def plain():
    """A warden without any privilege beyond ours, and our end of its socket."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        command = [SYSTEM_PYTHON, "-I", warden.__file__, "--fd", str(theirs.fileno())]
        child = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        theirs.close()
        yield ours, child
    child.wait(timeout=60)


def test_garbage_is_refused_counted_and_survived(plain):
    channel, child = plain
    channel.settimeout(60)
    for i in range(199):
        channel.send(os.urandom(1 + 11 * i))
        assert json.loads(channel.recv(4096))["refused"] == i + 1
    client = WardenClient(channel)
    assert client.ping() == child.pid
    assert client._ask("ping")["refused"] == 199


def test_io_of_processes_and_of_none(plain):
    client = WardenClient(plain[0])
    assert set(client.io([os.getpid(), 1 << 22])) <= {os.getpid()}
    assert client.io([]) == {}


def test_the_network_namespace_of_a_process_has_the_number_it_has(plain):
    client = WardenClient(plain[0])
    assert client.netns(os.getpid()) == os.stat("/proc/self/ns/net").st_ino
    with pytest.raises(NoData):
        client.netns(1 << 22)


def test_a_sample_of_tracked_connections_is_numbers_and_addresses_or_none(plain):
    client = WardenClient(plain[0])
    if not os.access("/proc/self/net/nf_conntrack", os.R_OK):
        with pytest.raises(NoData):
            client.tracked(os.getpid())
        return
    found = client.tracked(os.getpid())
    assert found["unanswered"] <= found["looked"] <= 4096
    assert len(found["source"]) == len(found["target"]) == 2


def test_it_exits_when_the_daemon_hangs_up(plain):
    channel, child = plain
    assert WardenClient(channel).ping() == child.pid
    channel.close()
    assert child.wait(timeout=60) == 0


def test_a_warden_that_died_is_broken(plain):
    channel, child = plain
    assert WardenClient(channel).ping()
    child.kill()
    child.wait()
    with pytest.raises(Broken, match="warden"):
        WardenClient(channel).ping()


def test_no_warden_says_how_to_get_one(tmp_path):
    with pytest.raises(NoData, match="systemctl start"):
        connect_warden(str(tmp_path / "nobody.sock"))


@pytest.mark.needs_root
def test_privileges_and_network_are_given_up():
    channel, pid = spawn_warden()
    with WardenClient(channel) as client:
        assert client.ping() == pid
        status = Path(f"/proc/{pid}/status").read_text()
        held = int(status.split("CapPrm:")[1].split()[0], 16)
        assert held & ~sum(1 << cap for cap in warden._KEPT_CAPS) == 0
        assert "NoNewPrivs:\t1" in status
        assert os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net")
        assert client.smaps(pid)["Pss"] < 16_000_000
        assert client.stack(pid)
        assert sum(client.numa_maps(pid).values()) > 100
        with pytest.raises(NoData):
            client.stack(protocol.MAX_PID)
        kmsg = client.kmsg()
        assert os.readlink(f"/proc/self/fd/{kmsg}") == "/dev/kmsg"
        os.close(kmsg)
    assert os.waitpid(pid, 0)[1] == 0


def _as_user(uid: int, path: str) -> bool:
    """Whether a process of that uid gets an answer; the socket's mode is opened first, to test the credentials."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setuid(uid)
            WardenClient(connect_warden(path)).ping()
            code = 0
        except (Broken, NoData, OSError):
            code = 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.needs_root
def test_only_one_user_is_let_in_and_the_next_daemon_is_served():
    path = f"/tmp/etio-test-{os.getpid()}/warden.sock"
    child = subprocess.Popen([SYSTEM_PYTHON, "-I", warden.__file__, "--listen", path, "--user", "nobody"])
    try:
        wait_for(lambda: os.path.exists(path) and os.stat(path).st_mode & 0o777 == 0o600, 60)
        assert not _as_user(1, path)
        os.chmod(path, 0o666)
        assert _as_user(65534, path)
        assert not _as_user(1, path)
        assert _as_user(65534, path)
    finally:
        child.terminate()
        child.wait()
        os.unlink(path)
        os.rmdir(os.path.dirname(path))
