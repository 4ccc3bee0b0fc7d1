"""Lookups that take long: told by how many wait and how many datagrams are sent, a bound that is below the truth."""

import contextlib
import os
import socket
import threading
import time
from collections import deque
from math import isnan
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.lookup_waits import Waits, parse_datagrams
from collector.lookups import COLLECTOR, Lookups, parse_options
from etio.core.errors import Broken, NoData
from etio.core.frame import NS
from tests.lookup_rig import opened, put
from tests.property_rig import outcome

SNMP = "Udp: InDatagrams NoPorts InErrors OutDatagrams\nUdp: {} 0 0 {}\n"
SERVER = "10.0.0.53:53"


class Host:
    """Lookups that each take `takes_s`, `rate` begun a second, two datagrams each, seen every two seconds."""

    def __init__(self, root: Path, rate: float, takes_s: float, other: float = 0.0, answered: float = 1.0) -> None:
        self.root, self.rate, self.takes_s, self.other, self.answered = root, rate, takes_s, other, answered
        self.put(0)

    def waiting(self, t: float) -> range:
        """Numbers of the lookups that wait at t."""
        return range(max(0, int((t - self.takes_s) * self.rate) + 1), int(t * self.rate) + 1)

    def put(self, t: float, server: str = "3500000A") -> None:
        put(self.root, *(1000 + i for i in self.waiting(t)), server=server)
        sent = 2 * int(t * self.rate) + int(t * self.other)
        (self.root / "proc/net/snmp").write_text(SNMP.format(int(self.answered * sent), sent))

    def run(self, one: Lookups, end: int, begin: int = 2) -> list[tuple[int, str, dict[str, object]]]:
        told = []
        for t in range(begin, end, 2):
            self.put(t)
            told += [(t, e.kind, dict(e.fields)) for e in one.collect(t * NS).events]
        return told


@pytest.fixture
def lookups(tmp_path):
    return opened(tmp_path)


def test_a_server_that_answers_late_is_told_after_ten_seconds_with_who_asks_and_the_settings(tmp_path, lookups):
    host = Host(tmp_path, 7.3, 0.8)
    (told,) = host.run(lookups, 60)
    t, kind, fields = told
    assert (t <= 20, kind) == (True, "lookups_slow")
    assert 0.25 <= fields["least_seconds"] <= 0.45  # half of the truth: two datagrams each
    assert (fields["pid"], fields["nameservers"], fields["options"]) == (4711, "10.0.0.53, 10.0.0.54", "rotate")
    assert fields["sent_per_second"] == pytest.approx(14.6, rel=0.1)
    host.takes_s = 0.001
    end = host.run(lookups, 130, begin=60)
    assert [kind for _, kind, _ in end] == ["lookups_quick"]
    assert end[0][0] <= 60 + 34


@pytest.mark.parametrize(("rate", "takes_s", "other"), [
    (7, 0.02, 0.0), (300, 0.03, 0.0), (2000, 0.1, 0.0), (0.1, 0.8, 0.0), (7, 0.8, 500.0), (20, 0.2, 0.0)])
def test_quick_or_few_lookups_and_hosts_that_send_much_else_are_not_told(tmp_path, lookups, rate, takes_s, other):
    assert Host(tmp_path, rate, takes_s, other).run(lookups, 120) == []


def test_a_server_that_is_dead_for_a_resolver_of_little_patience_is_told(tmp_path, lookups):
    (told,) = Host(tmp_path, 3.1, 2.0, answered=0.0).run(lookups, 60)
    assert told[1] == "lookups_slow"
    assert (told[2]["received_per_second"], told[2]["least_seconds"] >= 0.6) == (0.0, True)


def test_a_server_that_is_told_to_be_silent_is_not_told_to_be_slow_as_well(tmp_path, lookups):
    told = [kind for _, kind, _ in Host(tmp_path, 1.1, 10.0).run(lookups, 90)]
    assert told == ["lookups_unanswered"]


def test_sockets_that_stay_are_no_lookups(tmp_path, lookups):
    for t in range(2, 200, 2):
        put(tmp_path, *range(1, 20))
        (tmp_path / "proc/net/snmp").write_text(SNMP.format(t, t))
        assert lookups.collect(t * NS).events == ()


def test_of_a_resolver_on_this_host_and_the_server_it_asks_the_second_is_told(tmp_path, lookups):
    host, told = Host(tmp_path, 7.3, 0.8), []
    for t in range(2, 60, 2):
        host.put(t)
        there = tmp_path / "proc/net/udp"
        lines = there.read_text().splitlines()
        local = [line.replace("3500000A", "3500007F").replace(" 1", " 9") for line in lines[1:]]
        there.write_text("\n".join([*lines, *local]) + "\n")
        told += [(e.kind, e.entity) for e in lookups.collect(t * NS).events]
    assert told == [("lookups_slow", f"server={SERVER}")]


@pytest.mark.parametrize("text", ["", "Udp: A\n", "Udp: OutDatagrams\nUdp: x\n"])
def test_without_a_count_of_datagrams_nothing_is_told(tmp_path, lookups, text):
    for t in range(2, 60, 2):
        put(tmp_path, *range(10 * t, 10 * t + 9))
        (tmp_path / "proc/net/snmp").write_text(text)
        assert lookups.collect(t * NS).events == ()


@given(st.lists(st.tuples(st.floats(0, 60), st.floats(0.01, 20)), min_size=1, max_size=80), st.integers(0, 50))
def test_the_bound_is_not_above_the_mean_time_by_more_than_the_readings_miss(lookups_of, others):
    """Lookups of known begin and duration, one datagram each when they begin."""
    waits, found = Waits(0.0, 1, 45.0), []
    for t in range(140):
        here = {i: SERVER for i, (begin, takes) in enumerate(lookups_of) if begin <= t < begin + takes}
        sent = sum(begin <= t for begin, _ in lookups_of) + others * t
        if here or not waits.idle:
            waits.see(t * NS, here, float(sent), 0.0)
        found += list(waits.slow().values())
    longest = max(takes for _, takes in lookups_of)
    assert all(0 < one.seconds <= longest + 2.0 for one in found)
    assert waits.idle


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_parsers_raise_nothing_but_their_own_errors(one, two):
    outcome(lambda: parse_datagrams(one, two), NoData, Broken)
    assert isinstance(parse_options(one), tuple)


def test_datagrams_of_both_protocols_count_and_the_kernels_own_files_are_read():
    assert parse_datagrams(SNMP.format(7, 9).encode(), b"Udp6InDatagrams 1\nUdp6OutDatagrams 2\n") == (11.0, 8.0)
    assert isnan(parse_datagrams(b"Tcp: A\nTcp: 1\n", b"")[0])
    with pytest.raises((NoData, Broken)):
        parse_datagrams(b"", b"")
    real = parse_datagrams(Path("/proc/net/snmp").read_bytes(), b"")
    assert not isnan(real[0])


@pytest.mark.needs_root
def test_a_name_server_that_answers_late_is_seen_live():
    """Eight threads ask a server of our own at port 53 of a loopback address, which takes 0.7 s for each answer."""
    over, stop = threading.Event(), threading.Event()
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.197", 53))
    server.settimeout(0.02)

    def serve() -> None:
        due: deque[tuple[float, bytes, tuple[str, int]]] = deque()
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                due.append((time.monotonic() + 0.7, *server.recvfrom(512)))
            while due and due[0][0] <= time.monotonic():
                server.sendto(*due.popleft()[1:])

    def ask() -> None:
        while not over.is_set():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as query:
                query.settimeout(20)
                query.connect(("127.0.0.197", 53))
                query.send(b"who")
                query.recv(512)

    answering, asking = threading.Thread(target=serve), [threading.Thread(target=ask) for _ in range(8)]
    one = Lookups(COLLECTOR.config(slow_s=0.1))
    one.owners = lambda inodes: dict.fromkeys(inodes, os.getpid())
    one.open(Path("/"))
    for thread in (answering, *asking):
        thread.start()
    told, t, until = [], 0, time.monotonic() + 40
    try:
        while not told and time.monotonic() < until:
            time.sleep(0.25)
            t += 2  # readings come faster than they say: only their order counts
            told = [e for e in one.collect(t * NS).events if e.entity == "server=127.0.0.197:53"]
    finally:
        over.set()
        for thread in asking:
            thread.join()
        stop.set()
        answering.join()
        server.close()
    assert [e.kind for e in told] == ["lookups_slow"]
    assert told[0].get("pid") == os.getpid()
