"""Losses of UDP sockets: which port, told after two readings that agree, and when they are over."""

import os
import socket
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.cgroup_files import slurp
from collector.udp_sockets import COLLECTOR, UdpSockets, parse_udp
from etio.core.errors import NoData
from etio.core.frame import NS

HEAD = ("   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref "
        "pointer drops\n")
LINE = "  7: 0100007F:{:04X} 00000000:0000 07 00000000:00002100 00:00000000 00000000     0        0 {} 2 0000 {}\n"


def opened(root):
    one = UdpSockets(COLLECTOR.config())
    one.open(root)
    return one


def put(root, *sockets):
    (root / "proc/net").mkdir(parents=True, exist_ok=True)
    (root / "proc/net/udp").write_text(HEAD + "".join(LINE.format(*s) for s in sockets))


def events(one, t):
    return [(e.kind, e.entity, e.get("pid")) for e in one.collect(t * NS).events]


def test_a_socket_that_loses_is_told_with_its_owner_and_its_end(tmp_path):
    put(tmp_path, (8125, 77, 10), (53, 78, 5))
    one = opened(tmp_path)
    one.owners = lambda inodes: {77: 4711}
    assert events(one, 2) == []
    put(tmp_path, (8125, 77, 110), (53, 78, 5))
    assert events(one, 4) == []
    put(tmp_path, (8125, 77, 210), (53, 78, 5))
    assert events(one, 6) == [("udp_socket_drops", "port=8125", 4711)]
    put(tmp_path, (8125, 77, 310), (53, 78, 5))
    assert events(one, 8) == []
    assert events(one, 10) == [("udp_socket_calm", "port=8125", None)]


def test_old_losses_a_burst_and_a_few_are_not_told(tmp_path):
    put(tmp_path, (8125, 77, 1_000_000))
    one = opened(tmp_path)
    for t, drops in ((2, 1_000_000), (4, 1_000_500), (6, 1_000_500), (8, 1_000_510), (10, 1_000_520)):
        put(tmp_path, (8125, 77, drops))
        assert events(one, t) == []


def test_no_list_is_no_data(tmp_path):
    with pytest.raises(NoData):
        opened(tmp_path)


@given(st.binary(max_size=300))
def test_the_parser_never_raises(raw):
    assert all(one.port <= 0xFFFF or one.port >= 0 for one in parse_udp(raw))


def test_a_real_socket_that_overflows_is_found():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as full, \
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        full.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        full.bind(("127.0.0.1", 0))
        port, inode = full.getsockname()[1], os.fstat(full.fileno()).st_ino
        one = opened(Path("/"))
        one.owners = lambda inodes: dict.fromkeys(inodes, os.getpid()) if inodes == [inode] else {}
        found, until = [], time.monotonic() + 30
        while time.monotonic() < until and not found:
            for _ in range(200):
                sender.sendto(b"x" * 500, ("127.0.0.1", port))
            found = [e for e in one.collect(time.time_ns()).events if e.entity == f"port={port}"]
            time.sleep(0.05)
        assert [(e.kind, e.get("pid")) for e in found] == [("udp_socket_drops", os.getpid())]


def test_more_sockets_than_fit_into_a_page_are_all_read():
    """The kernel gives such files a page at a time."""
    held = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(100)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        ports = {one.getsockname()[1] for one in held}
        assert ports <= {one.port for one in parse_udp(slurp("/proc/net/udp", 1 << 20) or b"")}
        assert len(slurp("/proc/net/udp", 500) or b"") == 500
    finally:
        for one in held:
            one.close()
