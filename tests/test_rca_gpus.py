"""What the causes of GPUs and of NUMA make of facts and events: families of XIDs, holders, siblings, placement."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etio.core.event import HostEvent
from etio.core.facts import Facts, HostInfo
from etio.core.frame import NS
from rca.case import Case
from rca.gpu_xids import XIDS, family_of
from rca.gpus import below_siblings, gpu_with_users, holders
from rca.numa import placed
from rca.rank_neighbours import Place, far, shared
from rca.scene import Scene
from tests import incident_builder as build

NOW = build.ONSET_NS + 12 * NS


def scene(extra=(), series=None):
    spec = {"series": series or {"cpu_busy_ratio": 0.1}, "alerts": []}
    case = Case(build.incident_of(spec, NOW), NOW, "testhost")
    return Scene(case, build.window_of(spec), (), Facts(HostInfo("h"), extra=tuple(extra)))


@pytest.mark.parametrize(("xid", "family"), [
    (13, "application"), (31, "application"), (43, "application"), (48, "memory"), (63, "repair"), (64, "unrepaired"),
    (92, "corrected"), (94, "contained"), (95, "uncontained"), (74, "nvlink"), (79, "lost"), (119, "firmware"),
    (120, "firmware"), (54, "other"), (99999, "other")])
def test_families(xid, family):
    assert family_of(HostEvent(1, "gpu_xid", "gpu=0", (("xid", xid),))) == family


def test_who_has_to_act_is_the_same_for_collector_and_report():
    from collector.gpu.xid_kinds import MINOR, OF_PROGRAMS, event_kind
    assert {n for n, (family, _) in XIDS.items() if family == "application"} == OF_PROGRAMS
    assert {family for n, (family, _) in XIDS.items() if n in MINOR} == {"repair", "corrected", "contained"}
    assert [event_kind(n) for n in (31, 63, 94, 92, 48, 64, 95, 119, 79)] == [
        "gpu_program_xid", *["gpu_minor_xid"] * 3, *["gpu_xid"] * 4, "gpu_lost"]


def test_an_event_without_a_number_is_of_no_family():
    assert family_of(HostEvent(1, "gpu_xid", "gpu=0")) == "other"
    assert family_of(HostEvent(1, "gpu_lost", "gpu=0")) == "lost"


def test_holders_are_those_of_the_gpu_with_most_memory_first():
    found = holders(scene([
        ("gpu process gpu=0 pid=7", "comm: a: b; memory: 5 bytes; runs on node: 1; gpu node: 0"),
        ("gpu process gpu=0 pid=8", "comm: c; memory: 9 bytes"), ("gpu process gpu=0 pid=9", ""),
        ("gpu process gpu=1 pid=6", "comm: d"), ("gpu 0", "name: x"), ("gpu process gpu=x pid=6", "")]), "0")
    assert [(h.pid, h.comm) for h in found] == [(8, "c"), (7, "a: b"), (9, "")]
    assert (found[1].node, found[1].gpu_node) == (1, 0)
    assert math.isnan(found[2].memory_bytes)


def test_who_works_on_a_gpu_is_told_with_it():
    facts = [(f"gpu process gpu=2 pid={i}", f"comm: job{i}; memory: {9 - i} bytes") for i in range(3, 8)]
    blame = gpu_with_users(scene(facts), "2")
    assert (blame.culprit.kind, blame.culprit.name) == ("device", "GPU 2")
    assert blame.culprit.claim == (
        "GPU 2 itself; job3 (pid 3), job4 (pid 4), job5 (pid 5) and 2 more work on it") == blame.evidence.claim
    assert gpu_with_users(scene(), "2").culprit.claim == "GPU 2 itself"


FACTS = st.lists(st.tuples(
    st.sampled_from(["gpu process gpu=0 pid=1", "numa pid=3 comm=x", "gpu 0", ""]) | st.text(max_size=40),
    st.lists(st.sampled_from(["memory: ", "runs: ", "0=1", " 1=0.5", "; ", "9 bytes", "comm: "]) | st.text(max_size=9),
             max_size=8).map("".join)), max_size=6)


@given(FACTS)
def test_any_facts_are_read_without_an_error(facts):
    one = scene(facts)
    assert all(h.pid >= 0 for h in holders(one))
    assert all(p.away_bytes >= 0 for p in placed(one))


def clocks(**hertz):
    found = {}
    for gpu, value in hertz.items():
        found[f"gpu_sm_clock_hertz{{gpu={gpu[1:]},uuid=G{gpu}}}"] = {"calm": value, "fault": value, "noise": 0}
        found[f"gpu_utilization_ratio{{gpu={gpu[1:]},uuid=G{gpu}}}"] = 0.9
    return found


@pytest.mark.parametrize(("hertz", "slow"), [
    ({"g0": 1.9e9, "g1": 1.9e9, "g2": 1.4e9}, True),
    ({"g0": 1.9e9, "g1": 1.9e9, "g2": 1.85e9}, False),
    ({"g1": 1.9e9, "g2": 1.4e9}, None),
])
def test_a_gpu_below_its_siblings_needs_two_of_them(hertz, slow):
    outcome = below_siblings("gpu_sm_clock_hertz", 0.9).look(scene(series=clocks(**hertz)), "2")
    assert outcome.holds is slow


def test_placement_is_away_only_from_a_home():
    home, spread, small = placed(scene([
        ("numa pid=1 comm=a", "runs: 0=0.05 1=0.95; memory: 0=8000000000 1=1; cgroup: /a; source: numa_maps"),
        ("numa pid=2 comm=b", "runs: 0=0.5 1=0.5; memory: 0=8000000000 1=1; cgroup: /; source: numa_maps"),
        ("numa pid=3 comm=c", "runs: 1=1.00; memory: 0=1000 1=1; cgroup: /; source: numa_maps")]))[0:3]
    assert {p.pid: p.away for p in (home, spread, small)} == {1: True, 2: False, 3: False}


def test_a_loader_away_from_its_memory_belongs_to_its_rank():
    spec = {"series": {"cpu_busy_ratio": 0.1}, "alerts": [],
            "processes": [{"pid": 7002, "ppid": 1, "comm": "train"},
                          {"pid": 7102, "ppid": 7002, "comm": "pt_data_worker"}]}
    case = Case(build.incident_of(spec, NOW), NOW, "testhost")
    known = build.facts_of({**spec, "extra": [
        ["numa pid=7102 comm=pt_data_worker",
         "runs: 0=0.01 1=0.99; memory: 0=9000000000 1=1000; cgroup: /; source: numa_maps"]]})
    one = Scene(case, build.window_of(spec), (), known)
    told = far(one, Place("2", 7002, "2", {"0", "1"}, {7000, 7001, 7002}))
    assert told.holds
    assert "pt_data_worker (pid 7102) of rank 2: it runs on NUMA node 1" in told.evidence.claim
    assert not far(one, Place("1", 7001, "1", {"0", "2"}, {7000, 7001, 7002})).holds


@pytest.mark.parametrize(("extra", "held"), [
    ([("gpu process gpu=2 pid=9100", "comm: jupyter; cgroup: /user; memory: 9 bytes")], True),
    ([(f"gpu process gpu={i} pid={9100 + i}", "comm: mps; cgroup: /mps; memory: 9 bytes") for i in range(3)], False),
    ([("gpu process gpu=2 pid=7002", "comm: train; memory: 9 bytes")], False),
    ([], None),
])
def test_a_stranger_is_one_that_only_this_rank_has(extra, held):
    place = Place("2", 7002, "2", {"0", "1"}, {7000, 7001, 7002})
    assert shared(scene(extra), place).holds is held
