"""Name lookups without an answer: told per server with its program; sockets that are kept are none; live."""

import os
import socket
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.lookups import COLLECTOR, Lookups, parse_lookups, parse_nameservers
from etio.core.errors import NoData
from etio.core.frame import NS
from tests.lookup_rig import LINE, SERVER, opened, put


@pytest.fixture
def lookups(tmp_path):
    return opened(tmp_path)


def look(one: Lookups, t: float) -> tuple[float, list[tuple[object, ...]]]:
    found = one.collect(int(t * NS))
    return float(found.values[0]), [(e.kind, e.entity, e.get("pid"), e.get("lookups")) for e in found.events]


def test_lookups_that_wait_longer_than_the_time_out_are_told_with_program_and_settings(tmp_path, lookups):
    put(tmp_path, 1, 2, 3)
    assert [look(lookups, t) for t in (2, 4, 6, 8, 10)] == [(0, []), (0, []), (0, []), (3, []), (3, [])]
    put(tmp_path, 2, 3)
    found = lookups.collect(12 * NS)
    (event,) = found.events
    assert float(found.values[0]) == 2
    assert (event.kind, event.entity, event.get("pid"), event.get("nameservers")) == (
        "lookups_unanswered", "server=10.0.0.53:53", 4711, "10.0.0.53, 10.0.0.54")
    put(tmp_path, 4, 5, 6)
    assert [look(lookups, t)[1] for t in (14, 16, 18, 20, 22)] == [[]] * 5
    put(tmp_path)
    assert [look(lookups, t)[1] for t in (24, 30, 40)] == [[]] * 3
    assert look(lookups, 44) == (0, [("lookups_answered", "server=10.0.0.53:53", None, None)])


def test_answered_lookups_however_many_and_sockets_that_are_kept_are_not_told(tmp_path, lookups):
    for t in range(2, 60, 2):
        put(tmp_path, *range(10 * t, 10 * t + 9), 7, 8)
        assert look(lookups, t)[1] == []
    put(tmp_path, *range(1000, 1009))
    for t in range(60, 240, 2):
        assert look(lookups, t)[1] == []


def test_other_ports_and_answers_that_wait_to_be_read_are_no_lookups():
    whole = "head\n" + LINE.format(1, SERVER, "0050", 0, 1) + LINE.format(2, SERVER, "0035", 90, 2)
    assert parse_lookups(whole.encode()) == {}
    assert parse_nameservers(b"nameserver ::1\nsearch x\nnameserver\n") == ("::1",)


@given(st.binary(max_size=300))
def test_parsers_never_raise(data):
    assert isinstance(parse_lookups(data), dict)
    assert isinstance(parse_nameservers(data), tuple)


def test_no_list_is_no_data(tmp_path):
    with pytest.raises(NoData):
        Lookups(COLLECTOR.config()).open(tmp_path)


def test_a_socket_of_our_own_that_waits_for_nobody_is_seen_live():
    one = Lookups(COLLECTOR.config(waits_s=0.2, least=1))
    one.owners = lambda inodes: dict.fromkeys(inodes, os.getpid())
    one.open(Path("/"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as query:
        query.connect(("127.0.0.199", 53))
        told: list[tuple[object, ...]] = []
        waiting, until = 0.0, time.monotonic() + 20
        while not waiting and time.monotonic() < until:
            waiting, events = look(one, time.time())
            told += events
            time.sleep(0.1)
    assert waiting >= 1
    told += look(one, time.time())[1]
    assert [e[:2] for e in told if e[1] == "server=127.0.0.199:53"] == [
        ("lookups_unanswered", "server=127.0.0.199:53")]
