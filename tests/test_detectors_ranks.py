"""The detector of slow ranks: the whole conformance battery on a job, and what it must and must not blame."""

import numpy as np
import pytest

from detectors import conformance
from detectors.ranks import DETECTOR, Config, Ranks
from detectors.state import from_bytes, to_bytes
from etio.core.errors import Broken
from etio.core.frame import NS, Frame
from etio.core.series import Series, labels

pytestmark = pytest.mark.slow

NAMES = ("gpu_job_own_seconds", "gpu_job_iteration_seconds", "gpu_job_role")


def job(ranks=4, name="a"):
    return tuple(Series(n, "seconds", labels=labels(job=name, rank=str(r))) for n in NAMES for r in range(ranks))


CALM = (*(0.3,) * 4, *(0.5,) * 4, *(0.0,) * 4)
FAULT = (*(0.3,) * 3, 0.4, *(0.5,) * 4, *(0.0,) * 4)


@pytest.mark.parametrize("check", conformance.CHECKS, ids=lambda check: check.__name__)
def test_battery_on_a_job(check, monkeypatch):
    monkeypatch.setattr(conformance, "host", lambda: job(4))
    monkeypatch.setattr(conformance, "CALM_MEANS", CALM)
    monkeypatch.setattr(conformance, "FAULT_MEANS", FAULT)
    monkeypatch.setattr(conformance, "SLOW", ())
    monkeypatch.setattr(conformance, "FALSE_ALARM_TICKS", 600)
    check(DETECTOR)


class Watch:
    """A job of four ranks, one tick at a time."""

    def __init__(self, detector=None, roles=(0, 0, 0, 0), seed=1):
        self.detector, self.rng = detector or Ranks(Config()), np.random.default_rng(seed)
        self.roles, self.t = np.array(roles, dtype=float), 0

    def ticks(self, n, factor=(1.0, 1.0, 1.0, 1.0), base=0.2, iteration=0.3, noise=0.02):
        for _ in range(n):
            self.t += 1
            own = base * np.array(factor) * np.exp(self.rng.normal(0, noise, 4))
            values = np.concatenate([own, np.full(4, iteration), self.roles])
            self.scores = self.detector.step(Frame(self.t * NS, job(), values))
        return self.blamed

    @property
    def blamed(self):
        return self.told("RankStraggling", "rank")

    def told(self, alert, label):
        return [s.label(label) for s, v in zip(self.scores.series, self.scores.values, strict=True)
                if v >= 1.0 and s.name == alert]


@pytest.mark.parametrize("rank", range(4))
@pytest.mark.parametrize("slower", [1.15, 1.3])
def test_each_rank_is_found_and_stays_told(rank, slower):
    watch = Watch()
    assert watch.ticks(60) == []
    factor = [slower if r == rank else 1.0 for r in range(4)]
    assert watch.ticks(12, factor) == [str(rank)]
    assert watch.ticks(100, factor) == [str(rank)]
    assert watch.ticks(30) == []


def test_slow_from_the_first_step_is_found_by_its_peers():
    assert Watch().ticks(40, (1.0, 1.3, 1.0, 1.0)) == ["1"]


def test_all_slower_together_is_nobodys_fault():
    watch = Watch()
    watch.ticks(60)
    assert watch.ticks(60, (1.4, 1.4, 1.4, 1.4)) == []


def test_what_holds_nobody_up_is_not_told():
    """The host side of an asynchronous job: 4 ms of a second; twice of it costs nobody anything."""
    watch = Watch()
    watch.ticks(60, base=0.004, iteration=1.0)
    assert watch.ticks(60, (1.0, 1.0, 2.0, 1.0), base=0.004, iteration=1.0) == []


def test_another_stage_is_not_slow():
    watch = Watch(roles=(0, 0, 1, 1))
    assert watch.ticks(120, (1.0, 1.0, 1.6, 1.6)) == []


def test_a_heavy_stage_is_told_as_one_and_blames_no_rank():
    watch = Watch(roles=(0, 0, 1, 1))
    watch.ticks(40, iteration=0.4)
    assert watch.told("StageImbalance", "stage") == []
    assert watch.ticks(40, (1.0, 1.0, 1.6, 1.6), iteration=0.5) == []
    assert watch.told("StageImbalance", "stage") == ["1"]
    at = next(i for i, s in enumerate(watch.scores.series) if s.name == "StageImbalance")
    assert dict(watch.scores.series[at].labels) == {"job": "a", "stage": "1"}
    assert "(ranks 2, 3) takes " in watch.scores.notes[at]
    assert "longer than that of the other stages" in watch.scores.notes[at]
    again = Ranks(Config())
    again.restore(from_bytes(to_bytes(watch.detector.snapshot())), ())
    watch.detector = again
    watch.ticks(1, (1.0, 1.0, 1.6, 1.6), iteration=0.5)
    assert watch.told("StageImbalance", "stage") == ["1"], "known at once after a restart"
    watch.ticks(60, iteration=0.4)
    assert watch.told("StageImbalance", "stage") == []
    assert watch.scores.values[[s.name == "StageImbalance" for s in watch.scores.series]] == [0.0]


def test_a_replica_that_is_slow_in_all_its_stages_is_told_as_one():
    watch = Watch(roles=(0, 0, 1, 1))
    watch.ticks(40)
    assert watch.ticks(40, (1.0, 1.3, 1.0, 1.3)) == []
    assert watch.told("ReplicaSlow", "replica") == ["1"]
    at = next(i for i, s in enumerate(watch.scores.series) if s.name == "ReplicaSlow")
    assert "(ranks 1, 3) takes " in watch.scores.notes[at]


def test_a_whole_that_holds_nobody_up_is_not_told():
    watch = Watch(roles=(0, 0, 1, 1))
    watch.ticks(80, (1.0, 1.0, 1.6, 1.6), base=0.004, iteration=1.0)
    assert watch.told("StageImbalance", "stage") == []


def test_a_role_that_is_unknown_for_a_moment_changes_nothing():
    watch, roles = Watch(roles=(0, 0, 1, 1)), np.array([0.0, 0.0, 1.0, 1.0])
    watch.ticks(40)
    for i in range(30):
        watch.roles = roles if i % 3 else np.full(4, np.nan)
        watch.ticks(1, (1.0, 1.0, 1.0, 1.3))
    assert watch.blamed == ["3"]


def test_a_frame_that_repeats_values_is_no_step():
    one, other = Watch(), Watch()
    for _ in range(80):
        one.ticks(1)
        other.ticks(1)
        last = Frame(other.t * NS + NS // 2, job(), np.concatenate([
            other.detector._jobs["a"].last, np.full(4, 0.3), other.roles]))
        other.detector.step(last)
    assert one.detector._jobs["a"].watch.scores() == other.detector._jobs["a"].watch.scores()


def test_quiet_for_long():
    watch = Watch(seed=5)
    told = set()
    for _ in range(800):
        told.update(watch.ticks(1, noise=0.05))
    assert told == set()


def test_state_goes_through_bytes_and_the_slow_rank_is_still_known():
    watch = Watch()
    watch.ticks(60)
    watch.ticks(20, (1.0, 1.0, 1.0, 1.3))
    again = Ranks(Config())
    again.restore(from_bytes(to_bytes(watch.detector.snapshot())), ())
    watch.detector = again
    assert watch.ticks(1, (1.0, 1.0, 1.0, 1.3)) == ["3"]


def test_damaged_state_is_refused():
    watch = Watch()
    watch.ticks(50)
    good = watch.detector.snapshot()
    for name in ("ranks", "stages", "roster", "change", "by_stage", "view", "limit"):
        state = from_bytes(to_bytes(good))
        state["jobs"]["a"]["watch"][name] = {"x": 1}
        with pytest.raises(Broken):
            Ranks(Config()).restore(state, ())
    state = from_bytes(to_bytes(good))
    state["jobs"]["a"]["watch"]["roster"]["base"] = np.zeros(2)
    with pytest.raises(Broken):
        Ranks(Config()).restore(state, ())


def test_ranks_without_a_number_and_jobs_without_end():
    detector = Ranks(Config())
    series = ()
    for i in range(40):
        series += tuple(Series(NAMES[0], "seconds", labels=labels(job=f"j{i}", rank=f"pid-{r}")) for r in range(2))
    for t in range(1, 4):
        scores = detector.step(Frame(t * NS, series, np.full(len(series), 0.1 + t / 100)))
    assert len(scores.values) == len(series)
    assert len(detector._jobs) == 32
