"""Connections that are broken off and connections that are turned away, counted by loaded programs; prime counts."""

# ruff: noqa: F811 (fixtures of ebpf_rig)

import sys
import time
from collections.abc import Iterator

import pytest

from tests.ebpf_rig import actors, client, ebpf, run, sh, two_hosts, values  # noqa: F401 (fixtures)

pytestmark = [pytest.mark.needs_bpf, pytest.mark.needs_root]


@pytest.fixture
def hosts() -> Iterator[tuple[str, str]]:
    with two_hosts("10.197.0") as both:
        yield both


def test_13_connections_are_turned_away_and_asked_for_from_the_same_address_they_are_not(ebpf, hosts):
    if "net_turned_away_per_second" not in values(ebpf):
        pytest.skip("this kernel gives no reason for a reset")
    ebpf.actors(0)
    before = values(ebpf)["net_turned_away_per_second"]
    code = ("import socket\nfor _ in range(13):\n    s = socket.socket()\n"
            "    assert s.connect_ex(('{}', {}))\n    s.close()")
    for address, port in (("10.197.0.2", 5563), ("10.197.0.1", 5569), ("127.0.0.1", 5571)):
        sh("ip", "netns", "exec", hosts[0], "ip", "link", "set", "lo", "up")
        sh("ip", "netns", "exec", hosts[0], sys.executable, "-I", "-c", code.format(address, port))
    found = {(a.name, a.port): a.count for a in actors(ebpf, "turned_away")}
    assert found["10.197.0.1", 5563] == 13
    assert not {port for _, port in found} & {5569, 5571}
    assert values(ebpf)["net_turned_away_per_second"] - before >= 13


BREAK_OFF = """
    import select, socket, struct, sys
    side, count = sys.argv[1], int(sys.argv[2])
    with socket.create_server(('127.0.0.1', 0), backlog=4) as server:
        for _ in range(count):
            client = socket.create_connection(server.getsockname())
            ours, _ = server.accept()
            client.send(b'x')
            assert select.select([ours], [], [], 20)[0]
            if side == 'client':
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
                client.close()
                ours.close()
            elif side == 'server':
                ours.close()
                client.close()
            else:
                ours.recv(1)
                client.close()
                assert ours.recv(1) == b''
                ours.close()
        print(server.getsockname()[1])
"""


@pytest.mark.parametrize(("side", "count"), [("server", 17), ("client", 13)])
def test_connections_that_one_side_breaks_off_are_those_of_its_program(ebpf, side, count):
    ebpf.actors(0)
    before = values(ebpf)
    pid, printed = run(BREAK_OFF, side, str(count))
    after, port = values(ebpf), int(printed)
    assert 0 < after["net_connections_reset_ratio"] <= 1
    for way in ("sent", "received"):
        key = f'net_connections_reset_per_second{{direction="{way}"}}'
        assert after[key] - before[key] >= count
    found = {(a.kind, a.pid, a.peer, a.port): a.count for a in ebpf.actors(time.time_ns()).actors}
    ends = {"server": (("reset_sent", pid, "127.0.0.1", port), ("reset_received", pid, f"127.0.0.1:{port}", 0)),
            "client": (("reset_sent", pid, f"127.0.0.1:{port}", 0), ("reset_received", 0, "127.0.0.1", port))}
    assert [found[end] for end in ends[side]] == [count, count]


def test_connections_that_are_closed_in_order_are_not_broken_off(ebpf):
    ebpf.actors(0)
    values(ebpf)
    pid, _ = run(BREAK_OFF, "nobody", "19")
    assert 0 <= values(ebpf)["net_connections_reset_ratio"] <= 1
    assert not [a for a in ebpf.actors(time.time_ns()).actors if a.pid == pid and a.kind.startswith("reset_")]
