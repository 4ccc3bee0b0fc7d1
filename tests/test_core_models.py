"""The three models: who raises which alert, evidence that joins an incident, severity by asset, the host's score."""

import numpy as np

from etio.core.alert import MODELS
from etio.core.alerts import KINDS
from etio.core.engine import Engine, Judge
from etio.core.event import FrameReady, HostEvent, Notify, StartRca, Write
from etio.core.frame import NS, Frame
from etio.core.policy import ALERTS, EVENT_ALERTS, EVENT_HELD, EngineConfig, by_model, model_of
from etio.core.score import Scores
from etio.core.series import Series, labels

T = 1_795_000_000 * NS
BUSY = Series("cpu_busy_ratio", "ratio")
GROUPS = tuple(Series("anomaly_score", "thresholds", labels=labels(subsystem=s)) for s in ("cpu", "host"))
RULE = (Series("CpuSaturated", "thresholds"),)


class Scripted:
    """A detector whose scores are set from outside, and which knows what carries them."""

    def __init__(self, name, series):
        self.name, self.series, self.values = name, series, np.zeros(len(series))

    def step(self, frame):
        return Scores(self.name, self.series, self.values.copy())

    def band(self):
        return None

    def snapshot(self):
        return {}

    def restore(self, state, series):
        pass

    def carriers(self, group, most=3):
        return [(BUSY, 0.8)]


class Rig:
    """An engine with one rule and the joint score, one frame a second."""

    def __init__(self):
        self.rule, self.joint = Scripted("hard_rules", RULE), Scripted("joint", GROUPS)
        self.engine = Engine(EngineConfig(), [Judge(self.rule, "rule"), Judge(self.joint, "group")])
        self.t = T

    def run(self, seconds, rule=0.0, cpu=0.0, host=0.0):
        actions = []
        for _ in range(seconds):
            self.t += NS
            self.rule.values, self.joint.values = np.array([rule]), np.array([cpu, host])
            actions += self.engine.step(FrameReady(Frame(self.t, (BUSY,), np.array([0.99]))))
        return actions

    def event(self, kind, entity, *fields):
        self.t += NS // 10
        return self.engine.step(HostEvent(self.t, kind, entity, fields))


def alerts(actions):
    return [a.item for a in actions if isinstance(a, Write) and hasattr(a.item, "fingerprint")]


def told(actions):
    return [a.name for n in actions if isinstance(n, Notify) for a in n.alerts]


def test_every_alert_has_one_of_the_three_models():
    assert {kind.model for kind in ALERTS.values()} == set(MODELS)
    assert {model_of(EVENT_ALERTS[kind]) for kind in ("gpu_xid", "pcie_error", "kernel_oops")} == {"asset"}
    assert model_of("NoLongerKnown") == "running"


def test_no_row_of_the_alerts_hides_another_and_every_lasting_one_has_an_end():
    assert len({kind.name for kind in KINDS}) == len(KINDS)
    events = [event for kind in KINDS for event in (*kind.events, *kind.cleared_by)]
    assert len(set(events)) == len(events)
    assert all(kind.events and kind.cleared_by for kind in KINDS if kind.held)
    assert "link_down" in EVENT_HELD
    assert "oom_kill" not in EVENT_HELD


def test_the_hosts_score_is_an_alert_that_pages_nobody_and_names_what_carries_it():
    rig = Rig()
    actions = rig.run(20, host=1.7, cpu=3.0)
    (alert,) = alerts(actions)
    assert (alert.name, alert.severity, alert.entity, alert.incident_id) == ("HostAnomaly", "info", "host", "")
    assert "cpu_busy_ratio (80%)" in alert.summary
    assert not told(actions)
    assert not any(isinstance(a, StartRca) for a in actions)
    score = rig.engine.unlike()
    assert (score.series[0].key, score.values.tolist()) == (GROUPS[1].key, [1.7])


def test_evidence_joins_the_incident_that_opens_after_it_and_the_one_that_is_open():
    rig = Rig()
    rig.run(20, host=2.0)
    opened = rig.run(8, rule=1.5, host=2.0)
    incident = next(a.incident for a in opened if isinstance(a, Notify))
    assert set(told(opened)) == {"HostAnomaly", "CpuSaturated"}
    later = rig.event("behaviour_new", "executable=/tmp/x")
    (alert,) = alerts(later)
    assert alert.incident_id == incident.id
    assert not told(later)
    assert {model: set(names) for model, names in by_model([*incident.alerts, alert]).items()} == {
        "running": {"HostAnomaly", "CpuSaturated"}, "behaviour": {"BehaviourNew"}}


def test_evidence_that_lasts_does_not_keep_an_incident_open_and_keeps_its_place_when_it_ends():
    rig = Rig()
    first = rig.run(8, rule=1.5, host=2.0)
    incident = next(a.incident for a in first if isinstance(a, Notify))
    calm = rig.run(30, host=2.0)
    ended = [n.incident for n in calm if isinstance(n, Notify)][-1]
    assert ended.resolved_ns
    over = alerts(rig.run(60))
    assert [(a.name, a.state, a.incident_id) for a in over] == [("HostAnomaly", "resolved", incident.id)]


def test_evidence_that_was_there_long_before_is_not_the_onset():
    rig = Rig()
    rig.run(300, host=2.0)
    opened = rig.run(8, rule=1.5, host=2.0)
    incident = next(a.incident for a in opened if isinstance(a, Notify))
    assert len(incident.alerts) == 2
    assert (incident.opened_ns - incident.onset_ns) / NS < 10


def test_old_evidence_is_not_dragged_into_a_later_incident():
    rig = Rig()
    rig.run(10, host=2.0)
    rig.run(120)
    assert set(told(rig.run(8, rule=1.5))) == {"CpuSaturated"}


def test_evidence_of_an_earlier_run_comes_to_an_end():
    rig = Rig()
    (alert,) = alerts(rig.run(10, host=2.0))
    fresh = Rig()
    fresh.engine.adopt_evidence([alert], T)
    assert [(a.name, a.state) for a in alerts(fresh.run(40))] == [("HostAnomaly", "resolved")]


def test_the_same_event_again_is_counted_and_not_told():
    rig = Rig()
    assert told(rig.event("block_io_error", "device=sda")) == ["KernelIoError"]
    assert not told([a for _ in range(4) for a in rig.event("block_io_error", "device=sda")])
    (alert,) = rig.engine.firing_alerts()
    assert (alert.value, alert.unit, alert.severity) == (5.0, "times", "critical")


def test_a_device_made_of_software_is_no_critical_asset():
    rig = Rig()
    rig.event("link_down", "device=veth12")
    rig.event("link_down", "device=eth0")
    assert {a.entity: a.severity for a in rig.engine.firing_alerts()} == {
        "device=veth12": "warning", "device=eth0": "critical"}


def test_a_program_that_crashes_again_and_again_is_one_piece_of_evidence():
    rig = Rig()
    for pid in range(50):
        assert not told(rig.event("segfault", f"pid={pid}", ("comm", "worker")))
    (alert,) = rig.engine.firing_alerts()
    assert (alert.name, alert.entity, alert.value) == ("ProcessCrashed", "comm=worker", 50.0)
