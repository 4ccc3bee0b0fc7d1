"""Stalled connections: told by peer with whose they are, ended when they move or are gone; clients of ours are not."""

import dataclasses
import socket
import struct
import time
from pathlib import Path

import pytest

from collector.sockdiag import RETRANSMITS, Details, Found, parse_messages
from collector.stalled import COLLECTOR, Stalled
from etio.core.errors import NoData
from etio.core.frame import NS

ESTABLISHED, LISTEN = 1, 10


def sock(inode: int, retries: int = 5, *, port: int = 40000, remote=("10.0.0.7", 5432), timer: int = RETRANSMITS,
         state: int = ESTABLISHED) -> Found:
    return Found(socket.AF_INET, state, retries, b"", socket.inet_aton("10.0.0.1"), port, socket.inet_aton(remote[0]),
                 remote[1], 0, 2896, 0, inode, Details(segment_bytes=1448.0, heard_seconds=8.6), timer)


@pytest.fixture
def stalled() -> Stalled:
    one = Stalled(COLLECTOR.config())
    one.owners = lambda inodes: dict.fromkeys(inodes, 4711)
    return one


def told(one: Stalled, found: list[Found], t: float = 0, listening: tuple[Found, ...] = ()) -> list[tuple[str, str]]:
    return [(e.kind, e.entity) for e in one.take(found, listening, int(t * NS))]


def test_a_silent_peer_is_told_once_with_its_numbers_and_its_end(stalled):
    (event,) = stalled.take([sock(1), sock(2, 6), sock(3, 0)], (), NS)
    assert (event.kind, event.entity) == ("connections_stalled", "peer=10.0.0.7:5432")
    assert [event.get(k) for k in ("pid", "connections", "retries", "unconfirmed", "segment", "silent_seconds")] == [
        4711, 2, 6, 2896, 1448, 9]
    assert told(stalled, [sock(1, 7)], 5) == []
    assert told(stalled, [sock(1, 0)], 10) == [("connections_resumed", "peer=10.0.0.7:5432")]
    assert told(stalled, [], 15) == []


def test_clients_of_a_server_here_and_receivers_that_are_full_are_not_told(stalled):
    listener = sock(9, 0, port=8080, state=LISTEN, timer=0)
    assert told(stalled, [sock(1, 9, port=8080), sock(2, 9, timer=4), sock(3, 4)], 0, (listener,)) == []


def test_what_a_program_left_behind_that_has_ended_is_not_told(stalled):
    assert told(stalled, [sock(0, 9), sock(0, 7)]) == []


def test_no_more_peers_are_told_than_may_be_and_the_others_when_there_is_room(stalled):
    many = [sock(i, remote=(f"10.0.1.{i}", 80)) for i in range(11, 22)]
    assert told(stalled, many) == [("connections_stalled", f"peer=10.0.1.{i}:80") for i in range(11, 19)]
    assert told(stalled, many[8:], 5) == [
        *(("connections_resumed", f"peer=10.0.1.{i}:80") for i in range(11, 19)),
        *(("connections_stalled", f"peer=10.0.1.{i}:80") for i in range(19, 22))]


def test_details_that_are_not_known_are_no_numbers(stalled):
    (event,) = stalled.take([dataclasses.replace(sock(1), details=Details())], (), NS)
    assert (event.get("segment"), event.get("silent_seconds")) == (0, -1)


def test_timer_retries_segment_and_silence_are_read_from_an_answer_of_the_kernel():
    body = struct.pack("=BBBB2s2s16s16sI8s5I", 2, ESTABLISHED, RETRANSMITS, 5, b"\x9c\x40", b"\x15\x38",
                       bytes((10, 0, 0, 1)) + bytes(12), bytes((10, 0, 0, 7)) + bytes(12),
                       0, bytes(8), 0, 0, 2896, 0, 7)
    info = bytes(16) + struct.pack("=I", 1448) + bytes(36) + struct.pack("=I", 8600) + bytes(60)
    body += struct.pack("=HH", 4 + len(info), 2) + info
    (one,), _ = parse_messages(struct.pack("=IHHII", 16 + len(body), 20, 0, 0, 0) + body)
    assert (one.timer, one.retries, one.send, one.remote_text) == (RETRANSMITS, 5, 2896, "10.0.0.7:5432")
    assert (one.details.segment_bytes, one.details.heard_seconds) == (1448.0, 8.6)


def test_live_walk_counts_and_a_recorded_host_has_none():
    one = Stalled(COLLECTOR.config())
    with pytest.raises(NoData):
        one.open(Path("/nonexistent"))
    one.open(Path("/"))
    reading = one.collect(time.time_ns())
    assert [s.name for s in reading.series] == ["tcp_stalled_connections"]
    assert reading.values[0] >= 0
    one.close()


class Answers:
    """The kernel's answers, one list of sockets for each walk."""

    def __init__(self, *walks: list[Found]) -> None:
        self.walks = list(walks)

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is held."""

    def dump(self, states: int, most: int = 0) -> tuple[list[Found], bool]:
        return self.walks.pop(0), True


def test_walks_are_rarer_while_nothing_is_sent_again(monkeypatch):
    answers = Answers([sock(1, 0)], [sock(1, 1)], [], [sock(1, 0)])
    monkeypatch.setattr("collector.stalled.SockDiag", lambda: answers)
    one = Stalled(COLLECTOR.config(share=1.0))
    one._live = True
    rests = [one.rest_s]
    for t in (1, 11, 16):
        one.collect(t * NS)
        rests.append(one.rest_s)
    assert rests == [0.0, 10.0, 0.0, 10.0]
    assert answers.walks == []
