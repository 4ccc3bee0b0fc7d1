"""States of sockets: piles in CLOSE_WAIT are told with their owner, those that come and go are not; live counts."""

import os
import socket
import struct
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.sockdiag import Found
from collector.socket_states import COLLECTOR, SocketStates, piles_of
from etio.core.errors import NoData
from etio.core.frame import NS

CLOSE_WAIT, SYN_RECV = 8, 3


def sock(inode: int, *, state: int = CLOSE_WAIT, local=("10.0.0.1", 8080), remote=("10.0.0.9", 40000)) -> Found:
    return Found(socket.AF_INET, state, 0, b"", socket.inet_aton(local[0]), local[1], socket.inet_aton(remote[0]),
                 remote[1], 0, 0, 0, inode)


def clients(first: int, count: int) -> list[Found]:
    return [sock(first + i, remote=(f"10.0.{i % 7}.9", 40000 + i)) for i in range(count)]


def told(one: SocketStates, found: list[Found], t: float) -> list[tuple[object, ...]]:
    return [(e.kind, e.entity, e.get("pid"), e.get("sockets"), e.get("peers")) for e in one.take(found, int(t * NS))]


@pytest.fixture
def states() -> SocketStates:
    one = SocketStates(COLLECTOR.config(pile=50, lasting_s=15))
    one.owners = lambda inodes: dict.fromkeys(inodes, 4711)
    return one


def test_a_pile_that_stays_is_told_once_again_when_it_doubled_and_its_end(states):
    pile = clients(1, 60)
    assert told(states, pile, 0) == told(states, pile, 14) == []
    assert told(states, pile, 15) == [("close_wait_pile", "endpoint=10.0.0.1:8080", 4711, 60, 7)]
    assert told(states, pile, 20) == []
    more = [*pile, *clients(100, 60)]
    assert told(states, more, 25) == []
    assert told(states, more, 40) == [("close_wait_pile", "endpoint=10.0.0.1:8080", 4711, 120, 7)]
    assert told(states, pile[:30], 45) == []
    assert told(states, pile[:20], 50) == [("close_wait_cleared", "endpoint=10.0.0.1:8080", None, None, None)]
    assert told(states, [], 55) == []


def test_sockets_that_come_and_go_are_no_pile_however_many(states):
    for t in range(0, 100, 5):
        assert told(states, clients(1000 * t, 500), t) == []


def test_a_client_is_told_by_its_peer(states):
    found = [sock(i, local=("10.0.0.1", 30000 + i), remote=("10.0.0.7", 5432)) for i in range(1, 60)]
    told(states, found, 0)
    assert told(states, found, 20) == [("close_wait_pile", "endpoint=10.0.0.7:5432", 4711, 59, 1)]


def test_other_states_are_counted_and_no_pile(states):
    found = [sock(i, state=SYN_RECV) for i in range(70)] + [sock(900, state=12)]
    assert told(states, found, 0) == told(states, found, 60) == []
    assert states._counts["syn_recv"] == 71


def test_nobody_known_is_no_pid(states):
    states.owners = None
    told(states, clients(1, 60), 0)
    assert told(states, clients(1, 60), 20)[0][2] == 0


def test_a_recorded_host_has_no_sockets():
    with pytest.raises(NoData):
        SocketStates(COLLECTOR.config()).open(Path("/nonexistent"))
    with pytest.raises(ValueError, match="share"):
        COLLECTOR.config(share=0.0)


@given(st.lists(st.tuples(st.integers(1, 99), st.integers(1, 4), st.integers(1, 4)), unique_by=lambda x: x[0]))
def test_each_socket_is_in_one_pile_at_most(rows):
    found = [sock(inode, local=("10.0.0.1", port), remote=("10.0.0.9", peer)) for inode, port, peer in rows]
    piles = piles_of(found, {inode: inode for inode, _, _ in rows}, 2)
    inodes = [i for pile in piles for i in pile.inodes]
    assert len(inodes) == len(set(inodes)) <= len(rows)
    assert all(len(pile.inodes) >= 2 and pile.oldest_ns == min(pile.inodes) for pile in piles)


def reading(one: SocketStates, t_ns: int) -> dict[str, float]:
    one._next_ns = 0
    found = one.collect(t_ns)
    return {s.label("state") or "": float(v) for s, v in zip(found.series, found.values, strict=True)}


def test_connections_of_our_own_that_are_not_closed_are_found_live_with_us_as_the_owner():
    one = SocketStates(COLLECTOR.config(pile=17, lasting_s=0))
    one.owners = lambda inodes: dict.fromkeys(inodes, os.getpid())
    one.open(Path("/"))
    with socket.create_server(("127.0.0.1", 0), backlog=32) as server:
        held = []
        for _ in range(17):
            client = socket.create_connection(server.getsockname())
            held.append(server.accept()[0])
            client.close()
        port = server.getsockname()[1]
        until = time.monotonic() + 20
        while (values := reading(one, time.time_ns()))["close_wait"] < 17:
            assert time.monotonic() < until, values
            time.sleep(0.05)
        assert one._told == {f"127.0.0.1:{port}": 17}
        for each in held:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            each.close()
    reading(one, time.time_ns())
    assert one._told == {}
    one.close()


def test_between_two_walks_the_last_one_stands(states):
    one = SocketStates(COLLECTOR.config(share=1e-7))
    one.open(Path("/"))
    first = one.collect(NS)
    one._counts["closing"] = 12345
    again = one.collect(2 * NS)
    assert [s.key for s in first.series] == [s.key for s in again.series]
    assert 12345 in again.values


def test_walks_are_rarer_while_no_pile_is_near(states):
    assert told(states, clients(1, 12), 0) == []
    assert states.rest_s == 10.0
    assert told(states, clients(1, 13), 10) == []
    assert states.rest_s == 0.0
