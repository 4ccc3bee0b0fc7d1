"""Stages and replicas of a job from its series to the report; the public traces through the detector of the daemon."""

import os
from pathlib import Path

import numpy as np
import pytest

from bench.straggler import load
from detectors.ranks import Config, Ranks
from etio.core.engine import Engine, Judge
from etio.core.event import FrameReady, Notify
from etio.core.facts import Facts, HostInfo
from etio.core.frame import NS, Frame
from etio.core.jobs import replicas
from etio.core.policy import EngineConfig
from etio.core.ports import Window
from etio.core.series import Series, labels
from rca.agent import explain
from rca.case import Case
from tests import incident_builder as build

START = 1_790_000_000 * NS
NAMES = ("gpu_job_own_seconds", "gpu_job_iteration_seconds", "gpu_job_role", "gpu_job_sync_blocked_ratio")


def frames(own, roles):
    """A job of which each row of own (float64[k, ranks]) is one second's news; everybody waits for the longest."""
    series = tuple(Series(n, "ratio" if n.endswith("ratio") else "seconds", labels=labels(job="train", rank=str(r)))
                   for n in NAMES for r in range(own.shape[1]))
    for i, row in enumerate(own):
        longest = np.full(len(row), 1.1 * np.nanmax(row))
        yield Frame(START + i * NS, series, np.concatenate([row, longest, roles, 1 - row / longest]))


def run(own, roles):
    """(alerts that fired as (name, entity), the last incident, all frames)."""
    engine, seen, fired, incident = Engine(EngineConfig(), [Judge(Ranks(Config()), "rule")]), [], {}, None
    for frame in frames(own, roles):
        seen.append(frame)
        for action in engine.step(FrameReady(frame)):
            if isinstance(action, Notify) and action.report is None:
                incident = action.incident
                fired |= {(a.name, a.entity): a.summary for a in action.alerts if a.state == "firing"}
    return fired, incident, seen


def reported(incident, seen):
    window = Window(seen[-1].series, np.array([f.t_ns for f in seen]), np.stack([f.values for f in seen]))
    case = Case(incident, seen[-1].t_ns, "host")
    return explain(case, build.MemoryHistory(window), Facts(HostInfo("host")), build.NoKnobs(), None)


def own_times(steps, factor, seed=1):
    return 0.4 * np.array(factor) * np.exp(np.random.default_rng(seed).normal(0, 0.01, (steps, len(factor))))


def test_a_stage_that_was_given_more_work_becomes_a_report_that_blames_no_rank():
    roles = (0, 0, 0, 1, 1, 1)
    own = np.concatenate([own_times(40, (1.0,) * 6), own_times(30, (1.0, 1.0, 1.0, 1.4, 1.4, 1.4), 2)])
    fired, incident, seen = run(own, roles)
    assert list(fired) == [("StageImbalance", "job=train,stage=1")]
    told = fired["StageImbalance", "job=train,stage=1"]
    assert told.startswith("train, 1 (job, stage) has more to compute than the other stages")
    assert "(ranks 3, 4, 5)" in told
    report = reported(incident, seen)
    assert [f.cause for f in report.findings] == ["stage_imbalance"]
    assert "no rank is slow" in report.summary
    assert report.culprit is None
    assert [s.title for s in report.suggestions][:1] == ["Give the heavy stage fewer layers"]


def test_a_replica_with_longer_data_becomes_a_report_that_blames_no_rank():
    roles = (0, 0, 0, 1, 1, 1)
    own = np.concatenate([own_times(40, (1.0,) * 6), own_times(30, (1.0, 1.3, 1.0, 1.0, 1.3, 1.0), 2)])
    fired, incident, seen = run(own, roles)
    assert list(fired) == [("ReplicaSlow", "job=train,replica=1")]
    assert [f.cause for f in reported(incident, seen).findings] == ["slow_replica"]


def test_a_healthy_pipeline_raises_nothing():
    fired, _, _ = run(own_times(200, (1.0,) * 3 + (0.96,) * 3), (0, 0, 0, 1, 1, 1))
    assert fired == {}


@pytest.mark.parametrize(("roles", "wanted"), [
    ({"2": 5, "0": 1, "3": 5, "1": 1}, {"0": 0, "2": 0, "1": 1, "3": 1}),
    ({"10": 1, "9": 1, "1": 0, "2": 0}, {"1": 0, "9": 0, "2": 1, "10": 1}),
    ({"0": 0, "1": 0, "2": 1}, {}), ({"0": 0, "pid-7": 1, "1": 0, "pid-8": 1}, {}), ({}, {}),
])
def test_replicas_follow_from_ranks_and_roles_or_are_not_told(roles, wanted):
    assert replicas(roles) == wanted


@pytest.mark.skipif("ETIO_DATA" not in os.environ, reason="ETIO_DATA: folder of the public data")
@pytest.mark.parametrize(("name", "rank", "stage"), [("AR", ["0"], []), ("ST", [], ["3"])])
def test_the_public_traces_are_told_apart_by_the_daemons_detector(name, rank, stage):
    work = load(Path(os.environ["ETIO_DATA"]) / "straggler" / f"trace-{name}.parquet")
    ranks = [m.rank for m in work.members]
    own = np.full((len(work.seconds), max(ranks) + 1), np.nan)
    own[:, ranks] = work.seconds
    roles = np.full(max(ranks) + 1, np.nan)
    roles[ranks] = [m.stage for m in work.members]
    fired, _, _ = run(own, roles)
    assert [dict(p.split("=") for p in e.split(","))["rank"] for n, e in fired if n == "RankStraggling"] == rank
    assert [dict(p.split("=") for p in e.split(","))["stage"] for n, e in fired if n == "StageImbalance"] == stage
