"""Who is named for network trouble: listeners, peers, devices; and what is not said when it is not known."""

import dataclasses

from etio.core.event import HostEvent
from etio.core.facts import Actor, ActorTable, Socket, SocketTable
from etio.core.frame import NS
from rca.agent import explain
from rca.case import Case
from rca.network_culprits import failing_peer, full_listener, lossy_peer_and_sender, silent_peer
from rca.scene import Scene
from tests import incident_builder as build

NOW = build.ONSET_NS + 12 * NS
CPU = {"pid": 4900, "ppid": 810, "comm": "frontdesk", "cgroup": "/system.slice/desk.service", "unit": "desk.service"}


def scene_of(name: str, sockets: tuple[SocketTable, ...] = (), actors: tuple[Actor, ...] | None = None) -> Scene:
    spec = build.load(name)
    spec["processes"] = [*spec["processes"], CPU]
    facts = dataclasses.replace(build.facts_of(spec), sockets=sockets)
    if actors is not None:
        facts = dataclasses.replace(facts, actors=(ActorTable(build.ONSET_NS, NOW, actors),))
    case = Case(build.incident_of(spec, NOW), NOW, "testhost")
    return Scene(case, build.window_of(spec), build.events_of(spec), facts)


def table(*listening: Socket, t: int = NOW) -> SocketTable:
    return SocketTable(t, listening)


def listener(waiting: float, limit: float = 8.0, pid: int = 4900, local: str = "0.0.0.0:8099") -> Socket:
    return Socket(local, "", "listen", pid, 0, waiting, limit)


def test_the_process_behind_the_full_queue_is_named():
    blame = full_listener(scene_of("listen_overflow", (table(listener(2)), table(listener(9)), table(listener(9)))), "")
    assert blame.clear
    assert (blame.culprit.kind, blame.culprit.name, blame.culprit.pid) == ("process", "frontdesk", 4900)
    assert blame.culprit.unit == "desk.service"
    assert blame.culprit.claim == (
        "frontdesk (pid 4900) listens on 0.0.0.0:8099, where 9 connections wait in a queue for 8")


def test_a_pid_that_is_known_only_from_another_moment_counts():
    seen = (table(listener(9, pid=0)), table(listener(8)))
    assert full_listener(scene_of("listen_overflow", seen), "").culprit.pid == 4900


def test_without_a_pid_the_socket_is_named_and_nobody_else():
    blame = full_listener(scene_of("listen_overflow", (table(listener(9, pid=0)),)), "")
    assert (blame.culprit.kind, blame.culprit.name, blame.culprit.pid) == ("peer", "0.0.0.0:8099", 0)
    assert "Somebody listens on" in blame.culprit.claim
    unknown = full_listener(scene_of("listen_overflow", (table(listener(9, pid=77_777)),)), "")
    assert unknown.culprit.name == "pid 77777"


def test_a_queue_with_room_is_no_culprit_and_two_full_ones_are_not_clear():
    assert full_listener(scene_of("listen_overflow", (table(listener(3)),)), "") is None
    assert full_listener(scene_of("listen_overflow"), "") is None
    two = (table(listener(9), listener(9, local="0.0.0.0:99", pid=700)),)
    assert not full_listener(scene_of("listen_overflow", two), "").clear


def test_the_report_of_an_overflow_names_socket_and_process():
    spec = build.load("listen_overflow")
    spec["processes"] = [*spec["processes"], CPU]
    facts = dataclasses.replace(build.facts_of(spec), sockets=(table(listener(9)),))
    case = Case(build.incident_of(spec, NOW), NOW, "testhost")
    history = build.MemoryHistory(build.window_of(spec), build.events_of(spec))
    report = explain(case, history, facts, build.NoKnobs(), None)
    assert report.title == "frontdesk does not accept its connections fast enough"
    assert "0.0.0.0:8099" in report.summary
    assert "Recv-Q" not in report.summary
    assert "Recv-Q" in explain(case, history, build.facts_of(spec), build.NoKnobs(), None).summary


def failed(name: str, peer: str, count: float, amount: float, pid: int = 4900) -> Actor:
    return Actor("connect_failure", name, pid, 0, count, amount, "seconds", "", peer)


def test_the_peer_that_was_waited_for_longest_is_named_with_who_waits():
    actors = (failed("worker", "10.0.0.2:5432", 6, 12.0), failed("curl", "10.0.0.2:5432", 2, 4.0, 9),
              failed("monitor", "127.0.0.1:9", 40, 0.01))
    blame = failing_peer(scene_of("connect_failures", actors=actors), "")
    assert (blame.culprit.kind, blame.culprit.name) == ("peer", "10.0.0.2:5432")
    assert blame.culprit.claim == (
        "8 connections of worker (pid 4900) and 1 other to 10.0.0.2:5432 failed, after 2 s each")
    assert blame.clear  # the monitor failed more often, but at once
    level = (failed("worker", "10.0.0.2:5432", 6, 12.0), failed("worker", "10.0.0.3:5432", 6, 11.0))
    assert not failing_peer(scene_of("connect_failures", actors=level), "").clear


def test_where_nobody_has_to_wait_the_peer_that_refuses_most_is_named():
    actors = (failed("worker", "10.0.0.2:80", 60, 0.01), failed("monitor", "127.0.0.1:9", 3, 0.4))
    blame = failing_peer(scene_of("connect_failures", actors=actors), "")
    assert blame.culprit.name == "10.0.0.2:80"
    assert blame.clear
    few = (failed("worker", "10.0.0.2:80", 4, 0.01), failed("monitor", "127.0.0.1:9", 3, 0.4))
    assert not failing_peer(scene_of("connect_failures", actors=few), "").clear


def test_pids_of_one_program_are_one_actor_and_without_any_nobody_is_named():
    actors = tuple(failed("curl", "10.0.0.2:80", 1, 1.0, pid) for pid in range(5000, 5009))
    blame = failing_peer(scene_of("connect_failures", actors=actors), "")
    assert blame.culprit.claim == "9 connections of curl to 10.0.0.2:80 failed, after 1 s each"
    assert blame.clear
    assert failing_peer(scene_of("connect_failures", actors=()), "") is None


def test_the_process_that_sends_again_is_named_where_its_socket_was_seen():
    peer = "10.77.0.2:5201"
    seen = SocketTable(NOW, (), (Socket("10.77.0.1:40000", peer, "established", 4900, 0, retries=3),))
    blame = lossy_peer_and_sender(scene_of("packet_loss", (seen,)), "")
    assert blame.culprit.claim == f"180 segments had to be sent again to {peer}, by frontdesk (pid 4900)"
    assert blame.evidence.claim == blame.culprit.claim
    other = SocketTable(NOW, (), (Socket("10.77.0.1:40000", "10.77.0.9:1", "established", 4900),))
    assert lossy_peer_and_sender(scene_of("packet_loss", (other,)), "").culprit.claim.endswith(peer)


def test_segments_to_a_port_without_a_listener_are_not_called_lost_packets():
    spec = build.load("connect_failures")
    spec["series"] |= {"net_drops_per_second{reason=NETFILTER_DROP}": 0,
                       "net_drops_per_second{reason=NO_SOCKET}": [0, 60],
                       "net_retransmits_per_second": 0, "tcp_retransmits_per_second": 0, "tcp_retransmit_ratio": 0,
                       "tcp_syn_retransmits_per_second": 0, "net_connect_failures_per_second{reason=abandoned}": 0,
                       "net_connect_failures_per_second{reason=refused}": [0, 60]}
    case = Case(build.incident_of(spec, NOW), NOW, "testhost")
    history = build.MemoryHistory(build.window_of(spec), build.events_of(spec))
    told = explain(case, history, build.facts_of(spec), build.NoKnobs(), None)
    assert [f.cause for f in told.findings] == ["connect_failures"]
    assert "lost" not in told.summary


def test_a_reason_of_the_kernel_is_told_with_what_it_means():
    spec = build.load("packet_loss")
    case = Case(build.incident_of(spec, NOW), NOW, "testhost")
    history = build.MemoryHistory(build.window_of(spec), build.events_of(spec))
    told = explain(case, history, build.facts_of(spec), build.NoKnobs(), None)
    assert "NETFILTER_DROP (a rule of nftables or iptables)" in told.summary


def test_a_small_segment_hints_at_no_path_mtu():
    fields = {"pid": 0, "connections": 1, "retries": 5, "unconfirmed": 99_000, "silent_seconds": 9}
    for segment, hint in ((1448, True), (36, False)):
        event = HostEvent(build.ONSET_NS + NS, "connections_stalled", "peer=10.0.0.7:80",
                          tuple((fields | {"segment": segment}).items()), "sock_diag")
        scene = scene_of("packet_loss")
        scene = Scene(scene.case, scene.window, (event,), scene.facts)
        assert ("path MTU" in silent_peer(scene, "10.0.0.7:80").culprit.claim) == hint
