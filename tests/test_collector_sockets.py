"""Sockets by sock_diag: parsers on any bytes, and sockets of our own found with their numbers and their owner."""

import os
import socket
import struct
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector import listening, sockdiag
from collector.ebpf.owners import find_owners
from collector.sockdiag import CONNECTED, LISTEN, Found, SockDiag, address, parse_messages
from collector.sockets import CROWD, SocketReader, busiest_of, busy_listeners, crowds_of, fill, sample_of
from etio.core.errors import Broken, NoData
from tests.property_rig import outcome

ONE = struct.pack("=BBBB2s2s16s16sI8s5I", 2, 10, 0, 3, b"\x1f\x90", b"\0\0", bytes((127, 0, 0, 1)) + bytes(12),
                  bytes(16), 0, b"cookie78", 0, 5, 4, 1000, 4711)
INFO = bytes(68) + struct.pack("=6I", 1500, 0, 0, 23, 0, 0) + bytes(8) + struct.pack("=I", 17)
MEMORY = struct.pack("=9I", 100, 0, 20, 0, 3, 0, 0, 0, 7)


def message(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body + bytes(-len(body) % 4)


def attribute(kind: int, body: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(body), kind) + body + bytes(-len(body) % 4)


def test_one_message_is_one_socket():
    found, done = parse_messages(message(20, ONE) + message(3, bytes(4)))
    (one,) = found
    assert done
    assert (one.local_text, one.state, one.retries, one.receive, one.send, one.uid, one.inode) == (
        "127.0.0.1:8080", 10, 3, 5, 4, 1000, 4711)
    assert one.identity[-8:] == b"cookie78"


def test_details_are_read_where_they_are_told():
    body = ONE + attribute(2, INFO) + attribute(7, MEMORY) + attribute(8, b"\0")
    (one,), done = parse_messages(message(20, body))
    assert not done
    told = one.details
    assert (told.rtt_seconds, told.cwnd, told.sent_again, told.memory_bytes, told.drops) == (0.0015, 23, 17, 123, 7)
    (old,), _ = parse_messages(message(20, ONE + attribute(2, INFO[:84]) + attribute(30, bytes(20))))
    assert old.details.cwnd == 23
    assert old.details.sent_again != old.details.sent_again


def test_an_error_of_the_kernel_is_no_data_with_its_name():
    with pytest.raises(NoData, match="No such file"):
        parse_messages(message(2, struct.pack("=i", -2) + bytes(16)))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda body: message(20, body)))
def test_any_bytes_raise_only_typed_errors(data):
    got = outcome(lambda: parse_messages(data), NoData, Broken)
    if got is not None:
        found, done = got
        assert done or len(found) <= len(data) // 16
        assert all(one.local_text and one.remote_text for one in found)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_answer_raises_only_typed_errors(data):
    whole = bytearray(message(20, ONE + attribute(2, INFO) + attribute(7, MEMORY)) + message(3, bytes(4)))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with suppress(NoData, Broken):
        for one in parse_messages(bytes(whole[:data.draw(st.integers(0, len(whole)))]))[0]:
            assert one.local_text
            assert one.remote_text


def test_addresses_as_people_write_them():
    mapped = bytes(10) + b"\xff\xff" + bytes((10, 1, 2, 3))
    assert address(socket.AF_INET6, mapped, 443) == "10.1.2.3:443"
    assert address(socket.AF_INET6, bytes.fromhex("fe80" + "00" * 13 + "01"), 1) == "[fe80::1]:1"


def made(identity: int, receive: int = 0, send: int = 0, retries: int = 0, state: int = 1) -> Found:
    return Found(2, state, retries, struct.pack("=I", identity), bytes(16), 80, bytes(16), 0, receive, send, 0, 0)


def test_the_fullest_listener_comes_first_and_empty_ones_not_at_all():
    found = [made(1, 1, 9, state=10), made(2, 0, 5, state=10), made(3, 3, 2, state=10), made(4, 9, 9)]
    assert [one.identity[0] for one in busy_listeners(found)] == [3, 1]
    assert fill(found[2]) == 1.0
    assert fill(found[0]) == 0.1


def test_the_busiest_are_those_with_most_of_anything():
    found = [made(i, send=i) for i in range(1, 40)] + [made(50, retries=2), made(60, receive=9), made(70)]
    kept = {one.identity[0] for one in busiest_of(found)}
    assert kept == {*range(32, 40), 50, 60}


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0), backlog=4) as server:
        yield server


def test_a_listener_that_does_not_accept_is_seen_filling(listener):
    collector = listening.Listening(listening.Config())
    collector.open(Path("/"))
    name = "{}:{}".format(*listener.getsockname())
    key = f'listen_queue_used_ratio{{listener="{name}"}}'
    clients = []
    try:
        for waiting in range(6):
            reading = collector.collect(0)
            values = dict(zip([s.key for s in reading.series], reading.values.tolist(), strict=True))
            assert values.get(key, 0.0) == waiting / 5
            assert values["listen_queue_used_ratio_max"] >= waiting / 5
            assert values["listen_sockets"] >= 1
            if waiting < 5:
                clients.append(socket.create_connection(listener.getsockname()))
    finally:
        collector.close()
        collector.close()
        for client in clients:
            client.close()


def test_a_recorded_host_has_no_sockets(tmp_path):
    with pytest.raises(NoData, match="live host"):
        listening.Listening(listening.Config()).open(tmp_path)


def test_a_slow_server_and_its_full_queue_are_named(listener):
    with socket.create_connection(listener.getsockname()), socket.create_connection(listener.getsockname()):
        table = SocketReader().read(7)
    name = "{}:{}".format(*listener.getsockname())
    (ours,) = [s for s in table.listening if s.local == name]
    assert (ours.waiting, ours.limit, ours.pid, ours.uid) == (2, 4, os.getpid(), os.getuid())
    assert table.t_ns == 7
    assert table.whole
    assert dict(table.states)["established"] >= 2


def test_a_connection_whose_reader_sleeps_is_among_the_busiest(listener):
    with socket.create_connection(listener.getsockname()) as client:
        peer, _ = listener.accept()
        client.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                client.send(bytes(1 << 16))
        ours = "{}:{}".format(*client.getsockname())
        found = {s.local: s for s in SocketReader(lambda inodes: {i: 4711 for i in inodes}).read(0).busiest}
        peer.close()
    assert found[ours].unsent_bytes > 0
    assert found[ours].remote == "{}:{}".format(*listener.getsockname())
    assert found[ours].pid == 4711
    assert 0 < found[ours].rtt_seconds < 60
    assert found[ours].cwnd >= 1
    assert found[ours].sent_again >= 0
    assert found[ours].memory_bytes > 0


def test_so_many_sockets_are_not_all_listed(listener):
    clients = [socket.create_connection(listener.getsockname()) for _ in range(3)]
    with SockDiag() as kernel:
        found, whole = kernel.dump(CONNECTED, 2)
    for client in clients:
        client.close()
    assert len(found) == 2 or whole
    with SockDiag() as kernel:
        assert any(one.local_port == listener.getsockname()[1] for one in kernel.dump(LISTEN)[0])


def test_a_socket_that_has_gone_is_no_data(listener):
    with SockDiag() as kernel:
        (one,) = [s for s in kernel.dump(LISTEN)[0] if s.local_port == listener.getsockname()[1]]
        listener.close()
        with pytest.raises(NoData):
            kernel.ask(one)


def test_the_owner_of_a_socket_is_found_and_a_stranger_is_not(listener, tmp_path):
    inode = os.fstat(listener.fileno()).st_ino
    assert find_owners({inode, 4_294_967_295}) == {inode: os.getpid()}
    folder = tmp_path / "31/fd"
    folder.mkdir(parents=True)
    (tmp_path / "7").mkdir()
    (tmp_path / "uptime").write_text("1 1")
    (folder / "3").symlink_to("socket:[99]")
    (folder / "4").write_text("no link")
    assert find_owners({99, 98}, str(tmp_path)) == {99: 31}
    assert find_owners({99}, str(tmp_path), budget_s=-1.0) == {}


@pytest.mark.needs_root
def test_the_warden_tells_owners_of_sockets(listener):
    from collector.ebpf.client import WardenClient, spawn_warden

    child = subprocess.Popen([sys.executable, "-c", "import socket, sys\ns = socket.create_server(('127.0.0.1', 0))\n"
                              "print(s.getsockname()[1], flush=True)\nsys.stdin.read()"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    channel, pid = spawn_warden()
    try:
        port = int(child.stdout.readline())
        with SockDiag() as kernel:
            inodes = {one.local_port: one.inode for one in kernel.dump(LISTEN)[0]}
        ours = listener.getsockname()[1]
        with WardenClient(channel) as client:
            found = client.socket_owners([inodes[port], inodes[ours]])
    finally:
        child.communicate(timeout=30)
        os.waitpid(pid, 0)
    assert found == {inodes[port]: child.pid, inodes[ours]: os.getpid()}


def test_looking_at_listeners_is_cheap(listener):
    with SockDiag() as kernel:
        began = time.thread_time()
        for _ in range(20):
            kernel.dump(LISTEN)
        assert (time.thread_time() - began) / 20 < 0.02


def test_states_have_the_names_of_the_kernel():
    assert sockdiag.STATES[1] == "established"
    assert sockdiag.STATES[10] == "listen"
    assert CONNECTED & (1 << 2)
    assert not CONNECTED & LISTEN


def request(n: int, state: int = 12) -> Found:
    """A request to connect to port 8080, or another socket of ours with an inode."""
    peer = bytes((10, 0, n % 40, 9)) + bytes(12)
    return Found(2, state, 0, b"", bytes((10, 0, 0, 1)) + bytes(12), 8080, peer, 40000 + n, 0, 0, 0,
                 0 if state == 12 else 900 + n)


def test_many_requests_are_a_crowd_that_belongs_to_who_listens_and_few_are_none():
    found = [request(n) for n in range(CROWD)] + [request(n, 8) for n in range(CROWD - 1)]
    crowds = crowds_of(found)
    assert {state: len(group) for state, group in crowds.items()} == {"syn_recv": CROWD}
    listens = Found(2, 10, 0, b"", bytes(16), 8080, bytes(16), 0, 0, 64, 0, 4711)
    other = Found(2, 10, 0, b"", bytes(16), 22, bytes(16), 0, 0, 64, 0, 4712)
    assert sample_of("syn_recv", crowds["syn_recv"], [other, listens]) == [listens]
    reader = SocketReader(lambda inodes: {4711: 300})
    reader._find_owners([listens])
    crowd = reader._crowd("syn_recv", crowds["syn_recv"], [listens])
    assert (crowd.local, crowd.local_count, crowd.hosts, crowd.host_count, crowd.pid) == (
        "10.0.0.1:8080", CROWD, CROWD, 1, 300)


def test_a_crowd_of_our_own_sockets_is_sampled_for_its_owner():
    group = [request(n, 8) for n in range(500)]
    sample = sample_of("close_wait", group, [])
    assert 8 <= len(sample) <= 12
    assert len({one.inode for one in sample}) == len(sample)
    crowd = SocketReader(lambda inodes: {})._crowd("close_wait", group, sample)
    assert (crowd.count, crowd.pid, crowd.hosts) == (500, 0, 40)
