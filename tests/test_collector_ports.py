"""Local ports towards one peer: counted by peer, told at the end of the range, names of addresses, odd lines."""

import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.ports import COLLECTOR, Ports, parse_mark, parse_peers, parse_range, peer_text
from etio.core.errors import NoData
from etio.core.frame import NS

LINE = "   0: 0100007F:{:04X} {} {} 00000000:00000000 00:00000000 00000000     0        0 {} 1 0000 20 4 30 10 -1\n"
WEB, DB = "0700000A:0050", "0800000A:1538"


def put(root, *sockets, ports=(40000, 40099)):
    """sockets: (local port, remote, state, inode)."""
    (root / "proc/net").mkdir(parents=True, exist_ok=True)
    (root / "proc/sys/net/ipv4").mkdir(parents=True, exist_ok=True)
    (root / "proc/sys/net/ipv4/ip_local_port_range").write_text("{}\t{}\n".format(*ports))
    waiting = sum(s[2] == "06" for s in sockets)
    held = len(sockets) - waiting
    (root / "proc/net/sockstat").write_text(f"TCP: inuse {held} orphan 0 tw {waiting} alloc 9 mem 1\n")
    (root / "proc/net/tcp").write_text("  sl  local_address\n" + "".join(LINE.format(*s) for s in sockets))


def opened(root):
    one = Ports(COLLECTOR.config())
    one.open(root)
    one.owners = lambda inodes: dict.fromkeys(inodes, 4711)
    return one


def look(one, t):
    reading = one.collect(t * NS)
    return float(reading.values[0]), [(e.kind, e.entity, e.get("pid")) for e in reading.events]


def used(count, peer=WEB, waiting=0, first=40000):
    return [(first + i, peer, "06" if i < waiting else "01", 0 if i < waiting else 900 + i) for i in range(count)]


def test_all_ports_towards_one_peer_are_told_and_their_release(tmp_path):
    put(tmp_path, *used(99, waiting=90))
    one = opened(tmp_path)
    assert look(one, 2) == (0.99, [("ports_exhausted", "peer=10.0.0.7:80", 4711)])
    assert look(one, 4) == (0.99, [])
    put(tmp_path, *used(30))
    assert look(one, 6) == (0.3, [("ports_released", "peer=10.0.0.7:80", None)])
    assert look(one, 8) == (0.3, [])


def test_the_same_number_towards_two_peers_is_fine(tmp_path):
    put(tmp_path, *used(60), *used(60, DB))
    assert look(opened(tmp_path), 2) == (0.6, [])


def test_listening_and_incoming_sockets_take_no_local_port(tmp_path):
    put(tmp_path, *[(80, f"0{i % 9}00000A:{50000 + i:04X}", "01", i) for i in range(500)],
        *[(40000 + i, "00000000:0000", "0A", i) for i in range(99)])
    assert look(opened(tmp_path), 2) == (0.0, [])


def test_few_sockets_are_not_listed(tmp_path):
    put(tmp_path, *used(40))
    (tmp_path / "proc/net/tcp").unlink()
    assert look(opened(tmp_path), 2) == (0.4, [])


def test_no_tcp_is_no_data_and_no_range_is_missing(tmp_path):
    with pytest.raises(NoData):
        opened(tmp_path)
    put(tmp_path)
    (tmp_path / "proc/sys/net/ipv4/ip_local_port_range").write_text("x\n")
    assert not opened(tmp_path).collect(NS).series


@given(st.binary(max_size=200))
def test_parsers_never_raise(raw):
    assert isinstance(parse_peers(raw, 1, 65535), dict)
    assert len(parse_range(raw)) == 2
    assert peer_text(raw)


def test_a_real_connection_is_counted_towards_its_peer():
    with socket.create_server(("127.0.0.1", 0)) as server, \
            socket.create_connection(server.getsockname()) as client:
        local, peer = client.getsockname()[1], server.getsockname()[1]
        uses = parse_peers(Path("/proc/net/tcp").read_bytes(), local, local)
        assert f"127.0.0.1:{peer}" in {peer_text(key) for key in uses}


def test_memory_of_sockets_is_compared_with_the_pressure_mark_and_missing_without_one(tmp_path):
    put(tmp_path, *used(10))
    one = opened(tmp_path)
    assert len(one.collect(2 * NS).values) == 1
    (tmp_path / "proc/net/sockstat").write_text(
        "sockets: used 9\nTCP: inuse 7 orphan 0 tw 3 alloc 9 mem 500\nUDP: inuse 3 mem 7\n")
    (tmp_path / "proc/sys/net/ipv4/tcp_mem").write_text("200\t400\t575802\n")
    assert one.collect(4 * NS).values.tolist() == [0.1, 1.25]
    (tmp_path / "proc/sys/net/ipv4/ip_local_port_range").write_text("")
    assert one.collect(6 * NS).values[1] == 1.25


@given(st.binary(max_size=60))
def test_a_mark_is_positive_or_unknown(raw):
    mark = parse_mark(raw)
    assert mark > 0 or mark != mark  # noqa: PLR0124 - NaN
