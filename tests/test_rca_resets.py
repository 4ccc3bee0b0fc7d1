"""Who is named where connections are broken off or turned away, links come and go, or name servers are slow."""

import numpy as np
import pytest

from detectors.robust_z import Config as RobustConfig
from detectors.robust_z import RobustZ
from etio.core.engine import Engine, Judge
from etio.core.event import FrameReady, HostEvent
from etio.core.facts import Actor, Socket, SocketTable
from etio.core.frame import NS, Frame
from etio.core.policy import EngineConfig
from etio.core.series import Series, labels
from rca.agent import explain
from rca.case import Case
from rca.lookup_culprits import slow_server
from rca.network_culprits import flapping_link
from rca.reset_culprits import knocker, resetter, why_reset
from tests import incident_builder as build
from tests.test_rca_network import NOW, scene_of

REASON = "net_resets_by_reason_per_second{reason=%s}"


def sent(name: str, count: float, peer: str, port: int = 0, pid: int = 4900) -> Actor:
    return Actor("reset_sent", name, pid, count=count, peer=peer, port=port)


def received(name: str, count: float, peer: str, port: int = 0, pid: int = 4900) -> Actor:
    return Actor("reset_received", name, pid, count=count, peer=peer, port=port)


def blamed(*actors: Actor, sockets=()):
    return resetter(scene_of("connections_reset", sockets, actors), "")


def test_the_program_that_breaks_off_what_came_in_at_its_port_is_named_with_where_it_came_from():
    one = blamed(sent("frontdesk", 60, "10.0.0.7", 80), sent("frontdesk", 30, "10.0.0.8", 80),
                 received("curl", 25, "192.0.2.1:443", pid=99))
    assert (one.culprit.kind, one.culprit.name, one.culprit.pid, one.culprit.unit) == (
        "process", "frontdesk", 4900, "desk.service")
    assert one.culprit.claim == (
        "frontdesk (pid 4900) broke off 90 connections that came in at port 80, from 10.0.0.7 and 1 other address")
    assert one.clear


def test_where_both_ends_are_here_the_end_that_sent_the_resets_is_named():
    one = blamed(received("client", 90, "127.0.0.1:80"), sent("frontdesk", 90, "127.0.0.1", 80))
    assert one.culprit.name == "frontdesk"


def test_a_peer_that_breaks_off_what_was_opened_here_is_named_with_whose_connections():
    one = blamed(received("frontdesk", 90, "10.0.0.5:5432"), received("", 4, "10.0.0.9", 80, 0))
    assert (one.culprit.kind, one.culprit.name) == ("peer", "10.0.0.5:5432")
    assert one.culprit.claim == "10.0.0.5:5432 broke off 90 connections of frontdesk (pid 4900)"


def test_clients_that_break_off_are_told_with_who_listens_there():
    actor = received("", 90, "10.0.0.7", 8099, 0)
    listening = SocketTable(NOW, (Socket("0.0.0.0:8099", "", "listen", 4900),))
    assert blamed(actor, sockets=(listening,)).culprit.claim == (
        "90 connections at port 8099, where frontdesk (pid 4900) listens, were broken off by their clients, from "
        "10.0.0.7")
    assert "listens" not in blamed(actor).culprit.claim


def test_a_few_resets_name_nobody_and_two_programs_are_not_clear():
    assert blamed(sent("frontdesk", 3, "10.0.0.7", 80)) is None
    assert blamed() is None
    two = blamed(sent("frontdesk", 60, "10.0.0.7", 80), sent("sshd", 55, "10.0.0.7", 22, 700))
    assert not two.clear


def test_a_program_that_has_ended_is_named_without_a_number():
    one = blamed(sent("oneshot", 90, "10.0.0.7", 80, 77_777))
    assert (one.culprit.name, one.culprit.pid) == ("oneshot", 0)


@pytest.mark.parametrize(("reasons", "told"), [
    ({"TCP_ABORT_ON_CLOSE": 90, "NO_SOCKET": 500}, "TCP_ABORT_ON_CLOSE (closed by its program with data unread)"),
    ({"TCP_STATE": 90, "TCP_ABORT_ON_CLOSE": 5},
     "TCP_STATE (broken off by its program on purpose, as close does with SO_LINGER 0)"),
    ({"TCP_STATE": 50, "TCP_ABORT_ON_CLOSE": 50}, ""), ({"NO_SOCKET": 90}, ""), ({}, "")])
def test_the_kernels_reason_is_told_where_one_has_most(reasons, told):
    spec = build.load("connections_reset")
    spec["series"] = {k: v for k, v in spec["series"].items() if "by_reason" not in k}
    spec["series"] |= {REASON % name: [0, count] for name, count in reasons.items()}
    case = Case(build.incident_of(spec, NOW), NOW, "testhost")
    history = build.MemoryHistory(build.window_of(spec), build.events_of(spec))
    report = explain(case, history, build.facts_of(spec), build.NoKnobs(), None)
    assert ("The kernel tells why" in report.summary) == bool(told)
    assert told in report.summary
    assert why_reset(scene_of("connections_reset_peer"), "").holds is None


def knocking(*actors: tuple[str, float, int]):
    return knocker(scene_of("connections_turned_away", actors=tuple(
        Actor("turned_away", peer, count=count, port=port) for peer, count, port in actors)), "")


def test_the_port_that_is_asked_for_is_told_with_who_asks_most():
    one = knocking(("10.0.0.7", 60, 8096), ("10.0.0.8", 30, 8096), ("198.51.100.3", 4, 23))
    assert one.culprit.name == "10.0.0.7"
    assert one.culprit.claim == ("90 connections to port 8096 of this host were turned away: nobody listens there; "
                                 "they come from 10.0.0.7 and 1 other address")
    assert one.clear


def test_one_address_that_asks_for_many_ports_looks_for_open_ones_and_else_nobody_is_clear():
    search = knocking(*(("198.51.100.3", 2, port) for port in range(50)))
    assert (search.culprit.name, search.clear) == ("198.51.100.3", True)
    assert "asked for 50 closed ports of this host, as somebody does who looks for open ones" in search.culprit.claim
    assert not knocking(("10.0.0.7", 30, 80), ("10.0.0.8", 30, 81), ("10.0.0.9", 30, 82)).clear
    assert knocking(("10.0.0.7", 3, 80)) is None
    assert knocking() is None


def link(**fields):
    base = {"changes": 6, "seconds": 14, "down_ratio": 0.4, "switched_off_ratio": 0.0, "unsent_packets": 0}
    event = HostEvent(build.ONSET_NS, "link_flapping", "device=eth1", tuple((base | fields).items()), "/sys/class/net")
    scene = scene_of("link_flapping")
    scene.events = (event,)
    return flapping_link(scene, "eth1").culprit.claim


def test_a_link_that_comes_and_goes_is_told_with_how_often_who_switches_it_and_what_hangs_on_it():
    assert link(part_of="bond0", unsent_packets=9) == (
        "eth1 changed between up and down 6 times within 14 seconds and was down at 40 % of the looks; nobody on this "
        "host switches it off: its carrier goes; it is part of bond0; 9 packets could not be sent")
    assert "somebody on this host switches it off and on" in link(switched_off_ratio=1.0)
    assert "at some of them it was switched off on this host" in link(switched_off_ratio=0.5)
    assert "other end is interface 12 of the network namespace that is in" in link(other_end=12)
    assert "it stands on eth1" in link(stands_on="eth1")
    assert "switche" not in link(down_ratio=0.0)


def test_without_its_event_no_link_is_blamed():
    scene = scene_of("link_flapping")
    scene.events = ()
    assert flapping_link(scene, "eth1") is None


@pytest.mark.parametrize(("server", "listed", "said"), [
    ("10.0.0.53:53", "10.0.0.53, 10.0.0.54", "; /etc/resolv.conf names 10.0.0.53, 10.0.0.54, options ndots:5"),
    ("[fd00::53]:53", "fd00::53", "; /etc/resolv.conf names fd00::53, options ndots:5"),
    ("10.0.0.53:53", "10.0.0.54", "; it is none of those that /etc/resolv.conf of this host names: 10.0.0.54"),
    ("10.0.0.53:53", "", "or more in the mean")])
def test_a_slow_name_server_is_told_with_what_the_host_is_set_to(server, listed, said):
    scene = scene_of("dns_slow")
    fields = dict(scene.happened(("lookups_slow",))[0].fields) | {"nameservers": listed}
    scene.events = (HostEvent(build.ONSET_NS, "lookups_slow", f"server={server}", tuple(fields.items()), "x"),)
    assert slow_server(scene, server).culprit.claim.endswith(said)
    assert slow_server(scene, "10.9.9.9:53") is None


@pytest.mark.parametrize(("series", "alert"), [
    ("net_connections_reset_per_second", "ConnectionsReset"), ("net_turned_away_per_second", "ConnectionsTurnedAway")])
@pytest.mark.parametrize(("before", "now", "told"), [(0.2, 60.0, True), (40.0, 60.0, False), (40.0, 400.0, True)])
def test_resets_page_by_what_the_host_did_before(series, alert, before, now, told):
    rng = np.random.default_rng(7)
    engine = Engine(EngineConfig(), (Judge(RobustZ(RobustConfig(warmup=30, settled=60)), "series"),))
    of = (Series(series, "1/s", labels=labels(direction="sent")),)
    for t in range(1, 100):
        engine.step(FrameReady(Frame(t * NS, of, np.array([float(rng.poisson(before))]))))
    assert engine.firing_alerts() == ()
    for t in range(100, 112):
        engine.step(FrameReady(Frame(t * NS, of, np.array([float(rng.poisson(now))]))))
    assert [a.name for a in engine.firing_alerts()] == ([alert] if told else [])
