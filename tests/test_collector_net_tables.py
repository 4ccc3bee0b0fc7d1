"""Tables of /proc/net/stat, neighbours and tracked connections: parsers on any bytes, events, and the live tables."""

import socket
import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector import conntrack, neighbours, rtnetlink
from collector.conntrack import crowd_fields
from collector.ebpf.tracked import sample
from collector.neighbours import crowd_of, network_of
from collector.netstat_tables import parse_table
from etio.core.errors import Broken, NoData
from etio.core.frame import NS

ARP = ("entries  allocs   destroys hash_grows lookups  hits     res_failed rcv_probes_mcast rcv_probes_ucast "
       "periodic_gc_runs forced_gc_runs unresolved_discards table_fulls\n")
ZEROS = "00000000 " * 5
LINE = "{:08x} " + ZEROS + "{:08x} " + ZEROS + "{:08x}\n"
CONNTRACK = "entries  found new drop early_drop insert_failed\n"
TRACKED = """\
ipv4     2 tcp      6 431999 ESTABLISHED src=10.0.0.1 dst=10.0.0.2 sport=40001 dport=443 src=10.0.0.2 dst=10.0.0.1 \
sport=443 dport=40001 [ASSURED] mark=0 use=1
ipv4     2 tcp      6 100 SYN_SENT src=10.0.0.1 dst=10.0.0.2 sport=40002 dport=443 [UNREPLIED] src=10.0.0.2 \
dst=10.0.0.1 sport=443 dport=40002 mark=0 use=1
ipv6     10 udp      17 29 src=fe80::1 dst=fe80::2 sport=5353 dport=53 src=fe80::2 dst=fe80::1 sport=53 dport=5353 use=1
ipv4     2 icmp     1 29 src=10.0.0.1 dst=10.0.0.9 type=8 code=0 id=7 src=10.0.0.9 dst=10.0.0.1 type=0 code=0 id=7 use=1
half a line
"""


def put(root, entries=0, failed=0, fulls=0, limit=1024):
    stat, sysctl = root / "proc/net/stat", root / "proc/sys/net/ipv4/neigh/default"
    for folder in (stat, sysctl):
        folder.mkdir(parents=True, exist_ok=True)
    (stat / "arp_cache").write_text(ARP + LINE.format(entries, failed, fulls) + LINE.format(entries, 0, 1))
    (sysctl / "gc_thresh3").write_text(f"{limit}\n")


def values(one, t):
    reading = one.collect(t * NS)
    return {s.key: float(v) for s, v in zip(reading.series, reading.values, strict=True)}, reading.events


def test_neighbours_are_counted_once_and_what_cpus_count_is_added_up(tmp_path):
    put(tmp_path, entries=768, failed=5, fulls=16)
    one = neighbours.Neighbours(neighbours.COLLECTOR.config())
    one.open(tmp_path)
    found, events = values(one, 2)
    assert found == {'neighbour_entries{family="ipv4"}': 768, 'neighbour_used_ratio{family="ipv4"}': 0.75,
                     'neighbour_overflows_per_second{family="ipv4"}': 17,
                     'neighbour_failures_per_second{family="ipv4"}': 5}
    assert events == ()


def test_a_kernel_without_a_count_of_overflows_has_no_such_series(tmp_path):
    put(tmp_path)
    (tmp_path / "proc/net/stat/arp_cache").write_text("entries res_failed\n00000002 00000001\n")
    one = neighbours.Neighbours(neighbours.COLLECTOR.config())
    one.open(tmp_path)
    assert values(one, 2)[0]['neighbour_failures_per_second{family="ipv4"}'] == 1


def entry(index: int, state: int, address: bytes) -> bytes:
    attribute = struct.pack("=HH", 4 + len(address), rtnetlink.NDA_DST) + address
    return struct.pack("=BBHiHBB", socket.AF_INET, 0, 0, index, state, 0, 1) + attribute


def test_where_most_neighbours_are_and_how_many_do_not_answer():
    rows = [entry(7, rtnetlink.NUD_INCOMPLETE, bytes((10, 9, i >> 8, i & 255))) for i in range(1, 600)]
    rows += [entry(7, 2, bytes((10, 9, 0, 250))), entry(3, 2, bytes((192, 168, 0, 1))), entry(1, 0x40, bytes(4)), b"x"]
    found = [one for row in rows if (one := rtnetlink.parse_neighbour(row)) is not None]
    crowd = crowd_of(found)
    assert crowd is not None
    assert (crowd.index, crowd.entries, crowd.waiting, crowd.network, crowd.listed) == (7, 600, 599, "10.9.0.0/22", 601)
    assert crowd_of([]) is None


@given(st.lists(st.binary(min_size=4, max_size=4), min_size=1) | st.lists(st.binary(min_size=16, max_size=16),
                                                                         min_size=1))
def test_the_network_holds_every_address(addresses):
    from ipaddress import ip_address, ip_network
    network = ip_network(network_of(addresses))
    assert all(ip_address(one) in network for one in addresses)


@given(st.binary(max_size=300) | st.binary(max_size=80).map(lambda data: CONNTRACK.encode() + data))
def test_any_table_raises_only_typed_errors(data):
    with suppress(NoData, Broken):
        assert "entries" in parse_table(data)
    rtnetlink.parse_neighbour(data)


def tracking(root, count, drop, most=1000):
    stat, sysctl = root / "proc/net/stat", root / "proc/sys/net/netfilter"
    for folder in (stat, sysctl):
        folder.mkdir(parents=True, exist_ok=True)
    (stat / "nf_conntrack").write_text(CONNTRACK + f"{count:08x} 0 0 {drop:08x} 00000003 00000001\n")
    (sysctl / "nf_conntrack_count").write_text(f"{count}\n")
    (sysctl / "nf_conntrack_max").write_text(f"{most}\n")


def test_who_fills_the_table_is_asked_once_in_a_while_and_only_when_it_is_full(tmp_path):
    asked = []
    tracking(tmp_path, 500, 0)
    one = conntrack.Conntrack(conntrack.COLLECTOR.config())
    one.ask = lambda pid: asked.append(pid) or {
        "looked": 200, "unanswered": 150, "hosts": 3, "source": ["10.0.0.1", 190], "target": ["10.0.0.2:443", 120],
        "protocol": ["tcp", 200]}
    one.open(tmp_path)
    found, events = values(one, 2)
    assert (found["conntrack_drops_per_second"], found["conntrack_early_drops_per_second"]) == (0, 3)
    assert not events
    assert not asked
    tracking(tmp_path, 950, 0)
    (event,) = values(one, 4)[1]
    assert (event.kind, event.get("connections"), event.get("most")) == ("conntrack_crowd", 950, 1000)
    assert (event.get("source"), event.get("source_ratio"), event.get("target_ratio")) == ("10.0.0.1", 0.95, 0.6)
    tracking(tmp_path, 1000, 7)
    assert not values(one, 6)[1]
    assert len(values(one, 40)[1]) == 1
    assert len(asked) == 2


def test_nobody_to_ask_or_no_answer_is_no_event(tmp_path):
    tracking(tmp_path, 999, 0)
    one = conntrack.Conntrack(conntrack.COLLECTOR.config())
    one.open(tmp_path)
    assert not values(one, 2)[1]
    assert crowd_fields({"looked": 0, "unanswered": 0, "hosts": 0}) == ()
    assert crowd_fields({"looked": "many"}) == ()


def test_a_sample_tells_sources_targets_and_what_has_no_answer(tmp_path):
    (tmp_path / "nf_conntrack").write_text(TRACKED)
    assert sample(str(tmp_path / "nf_conntrack")) == {
        "looked": 4, "unanswered": 1, "hosts": 3, "source": ["10.0.0.1", 3], "target": ["10.0.0.2:443", 2],
        "protocol": ["tcp", 2]}
    assert sample(str(tmp_path / "nf_conntrack"), most=2)["looked"] == 2


def test_no_connection_tracking_is_no_data(tmp_path):
    with pytest.raises(NoData):
        conntrack.Conntrack(conntrack.COLLECTOR.config()).open(tmp_path)


def test_the_neighbours_of_this_host_can_be_listed():
    found = rtnetlink.neighbours(socket.AF_INET, 1000)
    assert all(len(address) == 4 for _, _, address in found)
    one = neighbours.Neighbours(neighbours.COLLECTOR.config())
    one.open(Path("/"))
    assert values(one, 2)[0]['neighbour_entries{family="ipv4"}'] >= 0
