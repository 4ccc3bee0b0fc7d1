"""Who is named for ports, half-open and tracked connections, neighbours, namespaces; and what is not said."""

import dataclasses

import pytest

from etio.core.facts import Actor, ActorTable, Facts, Socket, SocketCrowd, SocketTable
from etio.core.frame import NS
from etio.core.report import Report
from rca.agent import explain
from rca.case import Case
from tests import incident_builder as build

NOW = build.ONSET_NS + 12 * NS
PEER = "10.0.0.7:80"
WHO = {"pid": 6000, "comm": "sweeper", "cgroup": "/system.slice/sweeper.service", "unit": "sweeper.service"}


def report(name: str, *crowds: SocketCrowd, actors: tuple[Actor, ...] = (), **changes: object) -> Report:
    """The report of a recorded incident with these crowds of sockets; events=[] and series={...} replace."""
    spec = build.load(name)
    spec["series"] |= changes.pop("series", {})
    spec |= changes
    facts: Facts = build.facts_of(spec)
    facts = dataclasses.replace(facts, sockets=(SocketTable(NOW, crowds=crowds),) if crowds else ())
    if actors:
        facts = dataclasses.replace(facts, actors=(ActorTable(build.ONSET_NS, NOW, actors),))
    case = Case(build.incident_of(spec, NOW), NOW, "testhost")
    history = build.MemoryHistory(build.window_of(spec), build.events_of(spec))
    return explain(case, history, facts, build.NoKnobs(), None)


def flood(**changes: object) -> SocketCrowd:
    one = SocketCrowd("syn_recv", 256, "10.0.0.1:8080", 256, "198.18.4.4:1", 1, 250, "198.18.4.4", 2, pid=6000)
    return dataclasses.replace(one, **changes)


def test_a_flood_of_forged_addresses_names_their_number_and_the_listener_they_mean():
    told = report("syn_flood", flood())
    assert told.findings[0].cause == "syn_flood"
    assert told.culprit is not None
    assert (told.culprit.kind, told.culprit.name) == ("peer", "250 addresses")
    assert "to 10.0.0.1:8080, where frontdesk (pid 6000) listens" in told.culprit.claim


def test_a_flood_from_one_address_names_it():
    told = report("syn_flood", flood(hosts=3, host="203.0.113.9", host_count=250, pid=0))
    assert told.culprit is not None
    assert told.culprit.name == "203.0.113.9"
    assert "listens" not in told.culprit.claim


@pytest.mark.parametrize("series", [
    {"tcp_syn_cookies_returned_per_second": [0, 500]}, {"tcp_listen_overflows_per_second": [0, 400]}])
def test_clients_that_complete_and_a_server_that_does_not_accept_are_no_flood(series):
    told = report("syn_flood", flood(), series=series)
    assert "syn_flood" not in [f.cause for f in told.findings]
    assert told.findings[0].cause == "listen_overflow"


def test_who_looks_for_so_many_neighbours_is_named_and_a_few_connections_are_not_blamed():
    seek = SocketCrowd("syn_sent", 900, "10.20.0.1:40000", 1, "10.20.4.4:443", 1, 900, "10.20.4.4", 1, pid=6000)
    told = report("neighbour_table_full", seek)
    assert told.culprit is not None
    assert (told.culprit.name, told.culprit.pid, told.culprit.unit) == ("sweeper", 6000, "sweeper.service")
    few = report("neighbour_table_full", dataclasses.replace(seek, hosts=4))
    assert few.culprit is not None
    assert (few.culprit.kind, few.culprit.name) == ("device", "eth0")


CROWD = {"at": 1, "kind": "conntrack_crowd", "entity": "host", "source": "/proc/net/nf_conntrack", "fields": {
    "connections": 1000, "most": 1000, "looked": 1000, "unanswered": 10, "hosts": 1, "source": "10.0.0.1",
    "source_ratio": 0.97, "target": PEER, "target_ratio": 0.95, "protocol": "tcp", "protocol_ratio": 1.0}}
OWN = SocketCrowd("established", 940, "10.0.0.1:40000", 1, PEER, 940, 1, "10.0.0.7", 940, pid=6000)


def test_whose_connections_fill_the_table_is_named_by_program_by_address_or_not_at_all():
    processes = [*build.load("conntrack_full")["processes"], WHO]
    by_program = report("conntrack_full", OWN, events=[CROWD], processes=processes)
    assert by_program.culprit is not None
    assert (by_program.culprit.name, by_program.culprit.pid) == ("sweeper", 6000)
    assert "97% come from 10.0.0.1, 95% go to 10.0.0.7:80" in by_program.culprit.claim
    by_address = report("conntrack_full", dataclasses.replace(OWN, remote="10.9.9.9:1", local="10.9.9.1:2"),
                        events=[CROWD])
    assert by_address.culprit is not None
    assert (by_address.culprit.kind, by_address.culprit.name) == ("peer", "10.0.0.1")
    fields = CROWD["fields"] | {"source_ratio": 0.1, "target_ratio": 0.1}
    nobody = report("conntrack_full", events=[{**CROWD, "fields": fields}])
    assert nobody.culprit is not None
    assert (nobody.culprit.kind, nobody.culprit.name) == ("kernel", "nf_conntrack")


NO_PORT = 'net_connect_failures_per_second{reason="no_local_port"}'


def failed(reason: str, pid: int = 6000) -> Actor:
    return Actor("connect_failure", "scraper", pid, count=60, amount=0.01, unit="seconds", peer=PEER, reason=reason)


def test_when_all_ports_are_in_time_wait_who_was_refused_one_is_the_culprit():
    event = build.load("ports_exhausted")["events"][0]
    event = {**event, "fields": event["fields"] | {"pid": 0}}
    told = report("ports_exhausted", events=[event], actors=(failed("refused", 810), failed("no_local_port")))
    assert told.culprit is not None
    assert (told.culprit.name, told.culprit.pid) == ("scraper", 6000)


def test_ports_that_run_out_in_a_namespace_of_its_own_are_told_without_a_list_of_sockets():
    told = report("ports_exhausted", events=[], alerts=[{"name": "PortsExhausted", "lag": 1}],
                  series={NO_PORT: [0, 40]}, actors=(failed("no_local_port"),))
    assert told.findings[0].cause == "ports_exhausted"
    assert told.culprit is not None
    assert told.culprit.pid == 6000
    assert f"60 connections to {PEER}" in told.culprit.claim


def test_a_namespace_says_where_it_is_and_what_it_loses():
    told = report("namespace_losses")
    assert told.culprit is not None
    for word in ("kioskd (pid 6000) and 2 other processes of docker-1f2e.scope", "network namespace 4026532343",
                 "38 connections a second are turned away"):
        assert word in told.culprit.claim


CLOSE_WAIT = "tcp_state_sockets{state=close_wait}"


def test_a_pile_inside_a_container_is_not_refuted_by_the_sockets_of_the_host():
    told = report("close_wait_leak", series={CLOSE_WAIT: 0})
    assert told.findings[0].cause == "close_wait_leak"
    assert told.culprit is not None
    assert told.culprit.name == "orders"
    blind = report("close_wait_leak", series={CLOSE_WAIT: 0, "net_close_wait_sockets": 0})
    assert [f.cause for f in blind.findings][:1] == ["close_wait_leak"]


def test_a_flood_without_a_crowd_names_the_port_of_the_kernel_log_and_who_listens_there():
    listener = Socket("10.77.3.1:9200", state="listen", pid=6000, waiting=0, limit=16)
    spec = build.load("syn_flood")
    spec["events"] = [{"kind": "syn_flood_warning", "entity": "host", "lag": 0, "fields": {"port": "9200"}}]
    facts = dataclasses.replace(build.facts_of(spec), sockets=(SocketTable(NOW, (listener,)),))
    case = Case(build.incident_of(spec, NOW), NOW, "testhost")
    history = build.MemoryHistory(build.window_of(spec), build.events_of(spec))
    told = explain(case, history, facts, build.NoKnobs(), None)
    assert told.title == "This host is flooded with connection requests"
    assert "the port: 9200, where frontdesk (pid 6000) listens" in told.summary
