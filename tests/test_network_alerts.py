"""Alerts of the network: what fires by rule, what is held until an event ends it, and what must stay silent."""

import numpy as np
import pytest

from detectors.hard_rules import HardRules
from detectors.rules import Config
from etio.core.engine import Engine, Judge
from etio.core.event import FrameReady, HostEvent, Notify
from etio.core.frame import NS, Frame
from etio.core.policy import ALERTS, EVENT_ALERTS, EVENT_CLEARS, EVENT_HELD, EngineConfig
from etio.core.series import Series, labels

FAILED = "net_connect_failures_per_second"
PORT = {"device": "mlx5_0", "port": "1"}


def scores(values: dict[tuple[str, tuple[tuple[str, str], ...]], float]) -> dict[str, float]:
    """Score of each alert over one frame."""
    series = tuple(Series(name, "1/s", "gauge", own) for name, own in values)
    found = HardRules(Config()).step(Frame(NS, series, np.array(list(values.values()))))
    return dict(zip([s.key for s in found.series], found.values.tolist(), strict=True))


@pytest.mark.parametrize(("reason", "count", "ratio", "fires"), [
    ("abandoned", 2.0, 0.5, True), ("timed_out", 1.0, 0.2, True), ("unreachable", 5.0, 1.0, True),
    ("refused", 45.0, 1.0, True), ("refused", 22.0, 1.0, False), ("refused", 45.0, 0.05, False),
    ("abandoned", 2.0, 0.01, False), ("timed_out", 0.5, 1.0, False)])
def test_connections_without_an_answer_fire_and_those_that_are_refused_all_the_time(reason, count, ratio, fires):
    found = scores({(FAILED, labels(reason=reason)): count, ("net_connect_failure_ratio", ()): ratio})
    assert (found.get("ConnectFailures", 0.0) >= 1.0) == fires


@pytest.mark.parametrize(("core", "host", "fires"), [(0.95, 0.5, True), (0.95, 0.95, False), (0.5, 0.3, False)])
def test_a_core_of_interrupts_fires_only_while_others_idle(core, host, fires):
    found = scores({("cpu_core_softirq_ratio", labels(cpu="3")): core, ("cpu_busy_ratio", ()): host})
    assert (found['SoftirqSaturated{cpu="3"}'] >= 1.0) == fires


@pytest.mark.parametrize(("name", "value", "alert"), [
    ("symbol_errors", 2.0, "RdmaErrors"), ("link_recoveries", 0.2, "RdmaErrors"), ("icrc_errors", 1.0, "RdmaErrors"),
    ("sequence_errors", 12.0, "RdmaRetransmits"), ("ack_timeouts", 1.0, "RdmaRetransmits"), ("cnp_sent", 1e6, "")])
def test_errors_and_repeats_of_rdma_fire_and_congestion_control_at_work_does_not(name, value, alert):
    found = scores({(f"rdma_{name}_per_second", labels(**PORT)): value})
    assert [key for key, score in found.items() if score >= 1] == (
        [f'{alert}{{device="mlx5_0",port="1"}}'] if alert else [])


@pytest.mark.parametrize(("begins", "ends", "alert"), [
    ("link_degraded", "link_restored", "LinkDegraded"), ("rdma_link_down", "rdma_link_up", "RdmaLinkDown")])
def test_a_lasting_state_is_held_until_it_ends(begins, ends, alert):
    engine = Engine(EngineConfig(), ())
    entity = "device=mlx5_0,port=1"
    engine.step(HostEvent(NS, begins, entity))
    for t in range(2, 400):
        engine.step(_empty(t))
    assert [(a.name, a.labels) for a in engine.firing_alerts()] == [(alert, tuple(PORT.items()))]
    engine.step(HostEvent(400 * NS, ends, entity))
    assert engine.firing() == 0


def _empty(t: int) -> FrameReady:
    return FrameReady(Frame(t * NS, (), np.empty(0)))


def test_every_event_of_a_link_has_its_alert_and_its_end():
    for kind in ("link_degraded", "rdma_link_down"):
        assert kind in EVENT_HELD
        assert EVENT_ALERTS[kind] in ALERTS
        assert EVENT_ALERTS[kind] in EVENT_CLEARS.values()


@pytest.mark.parametrize(("name", "own", "value", "alert"), [
    (FAILED, {"reason": "no_local_port"}, 1.0, "PortsExhausted"),
    ("tcp_syn_cookies_sent_per_second", {}, 6.0, "SynFlood"),
    ("tcp_syn_queue_drops_per_second", {}, 6.0, "SynFlood"),
    ("neighbour_overflows_per_second", {"family": "ipv6"}, 1.0, 'NeighbourTableFull{family="ipv6"}'),
    ("conntrack_drops_per_second", {}, 1.0, "ConntrackFull"),
    ("conntrack_used_ratio", {}, 0.97, "ConntrackFull")])
def test_tables_that_are_full_fire_and_those_that_fill_do_not(name, own, value, alert):
    assert scores({(name, labels(**own)): value}).get(alert, 0.0) >= 1.0
    assert scores({(name, labels(**own)): value / 4}).get(alert, 0.0) < 1.0


@pytest.mark.parametrize(("begins", "ends", "entity"), [
    ("close_wait_pile", "close_wait_cleared", "endpoint=10.0.0.1:8080"),
    ("connections_stalled", "connections_resumed", "peer=10.0.0.7:5432"),
    ("namespace_losses", "namespace_calm", "namespace=docker-1.scope")])
def test_a_pile_or_a_losing_container_is_told_once_until_it_is_over(begins, ends, entity):
    engine = Engine(EngineConfig(), ())
    for t in (1, 60, 500):
        engine.step(HostEvent(t * NS, begins, entity))
        assert [a.name for a in engine.firing_alerts()] == [EVENT_ALERTS[begins]]
    engine.step(HostEvent(600 * NS, ends, entity))
    assert engine.firing() == 0


def test_a_client_that_knocks_at_a_dead_host_each_minute_is_one_alert_for_hours():
    """Twenty attempts of a second each minute: the rule holds for 20 seconds and rests for 40."""
    engine = Engine(EngineConfig(), (Judge(HardRules(Config()), "rule"),))
    series = (Series(FAILED, "1/s", "gauge", labels(reason="abandoned")), Series("net_connect_failure_ratio", "ratio"))
    told = []
    for t in range(1, 3 * 3600):
        failing = t % 60 < 20
        frame = Frame(t * NS, series, np.array([1.0 if failing else 0.0, 1.0 if failing else np.nan]))
        told += [a for a in engine.step(FrameReady(frame)) if isinstance(a, Notify)]
    assert [[one.name for one in notice.alerts] for notice in told] == [["ConnectFailures"]]


@pytest.mark.parametrize(("kind", "entity", "says"), [
    ("connections_stalled", "peer=10.0.0.7:80", "10.0.0.7:80 no longer confirms what is sent to it"),
    ("lookups_unanswered", "server=10.0.0.53", "name server 10.0.0.53 does not answer"),
    ("quota_exhausted", "quota=keys", "the kernel has given out all keys it may")])
def test_an_alert_names_what_it_speaks_of_and_not_its_label(kind, entity, says):
    engine = Engine(EngineConfig(), ())
    engine.step(HostEvent(NS, kind, entity))
    assert [alert.summary for alert in engine.firing_alerts()] == [says]
