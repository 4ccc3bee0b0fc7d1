"""The latency model at work: warming, false alarms, slowdowns, new regimes, warm starts, restarts."""

import numpy as np
import pytest

from detectors.saturation import StepModel
from detectors.saturation_known import Known, Start, distance, weights
from detectors.saturation_online import OnlineLatency
from detectors.saturation_reference import Config
from detectors.state import from_bytes, to_bytes
from etio.core.errors import Broken, NoData

pytestmark = pytest.mark.slow

HOME = StepModel("saturating", 8.0, 10.0, 0.1, 1e-4, 1e-4)
AWAY = StepModel("knee", 14.0, 22.0, 0.05, 3e-4, 2e-4, 80_000.0)
LOADS = np.random.default_rng(99)
FAR = np.column_stack([LOADS.integers(1, 65, 300), LOADS.uniform(200, 3000, 300)]).astype(float)
FAR[:, 1] *= FAR[:, 0]


def steps(model, count, seed=0, noise=0.04, most=64):
    random = np.random.default_rng(seed)
    batch = random.integers(1, most + 1, count).astype(float)
    tokens = batch * random.uniform(200, 3000, count)
    return np.column_stack([batch, tokens, model.predict(batch, tokens) * np.exp(random.normal(0, noise, count))])


def feed(online, rows):
    return np.array([online.observe(*row) for row in rows])


def error(online, model):
    guess = np.array([online.predict(b, s) for b, s in FAR])
    return float(np.mean(np.abs(guess / model.predict(*FAR.T) - 1.0)))


def settled(seed=0, count=300, **config):
    online = OnlineLatency(Config(**config))
    feed(online, steps(HOME, count, seed))
    return online


def test_warming_up_is_nan_and_then_quiet():
    scores = feed(OnlineLatency(), steps(HOME, 200))
    first = int(np.argmax(np.isfinite(scores)))
    assert 32 <= first <= 100
    assert np.isfinite(scores[first:]).all()


@pytest.mark.parametrize("noise", [0.01, 0.05, 0.15])
def test_no_false_alarm_on_healthy_steps(noise):
    scores = np.concatenate([feed(OnlineLatency(), steps(HOME, 1500, seed, noise)) for seed in range(3)])
    assert not (scores >= 1.0).any()


def test_more_load_is_not_slower_than_this_load_explains():
    online = OnlineLatency()
    light = steps(HOME, 200, 1, most=32)
    heavy = steps(HOME, 200, 2, most=64)
    scores = feed(online, np.concatenate([light, heavy]))
    assert heavy[:, 2].max() > 1.4 * light[:, 2].max()
    assert not (scores >= 1.0).any()


@pytest.mark.parametrize("slowdown", [1.15, 1.3, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_slowdown_is_told_within_a_block_or_two_and_stays_told(slowdown, seed):
    online = settled(seed)
    scores = feed(online, steps(HOME.scaled(slowdown), 600, seed + 50))
    assert int(np.argmax(scores >= 1.0)) < 16
    assert np.mean(scores[20:] >= 1.0) > 0.9
    assert online.degraded


def test_the_slowdown_ends_when_it_ends():
    online = settled()
    feed(online, steps(HOME.scaled(1.4), 200, 1))
    scores = feed(online, steps(HOME, 100, 2))
    assert online.degraded is False
    assert not (scores[20:] >= 1.0).any()


def test_two_stalled_steps_are_no_slowdown_and_three_are():
    for stalled, told in ((2, False), (3, True)):
        online = settled()
        rows = steps(HOME, 40, 3, noise=0.0)
        rows[10:10 + stalled, 2] *= 20.0
        assert bool((feed(online, rows) >= 1.0).any()) is told


def test_a_slowdown_too_small_to_matter_is_not_told():
    online = settled()
    scores = feed(online, steps(HOME.scaled(1.03), 300, 5))
    assert not (scores >= 1.0).any()


@pytest.mark.parametrize("seed", range(5))
def test_adapts_to_a_new_regime_within_50_observations(seed):
    online = settled(seed, 400)
    assert error(online, HOME) < 0.03
    assert error(online, AWAY) > 0.4
    feed(online, steps(AWAY, 50, seed + 10, noise=0.03))
    assert online.changes == 1
    assert error(online, AWAY) < 0.08
    feed(online, steps(AWAY, 150, seed + 20, noise=0.03))
    assert error(online, AWAY) < 0.05


def test_adapts_at_loads_that_the_new_regime_has_not_shown():
    online = settled(0, 400)
    feed(online, steps(HOME.scaled(1.6), 50, 7, noise=0.03, most=12))
    assert online.predict(64, 64 * 2000) == pytest.approx(float(HOME.scaled(1.6).predict(64, 64 * 2000)), rel=0.08)


def test_no_change_of_regime_where_there_is_none():
    assert [settled(seed, 1000).changes for seed in range(4)] == [0, 0, 0, 0]


def test_a_faster_server_becomes_the_new_normal():
    online = settled()
    feed(online, steps(HOME.scaled(0.6), 200, 1))
    scores = feed(online, steps(HOME.scaled(0.75), 60, 2))
    assert (scores[16:] >= 1.0).mean() > 0.9


def test_a_person_can_accept_the_new_speed():
    online = settled()
    feed(online, steps(HOME.scaled(1.5), 100, 1))
    assert online.degraded
    online.accept()
    scores = feed(online, steps(HOME.scaled(1.5), 200, 2))
    assert online.degraded is False
    assert np.isfinite(scores[60:]).all()
    assert not (scores >= 1.0).any()


def test_missing_values_are_no_observation_and_wrong_ones_are_refused():
    online = settled()
    seen = online.seen
    assert np.isnan(online.observe(4, 1000, float("nan")))
    assert online.seen == seen
    for row in ((0, 100, 5.0), (4, -1, 5.0), (4, 100, 0.0), (4, 100, float("inf"))):
        with pytest.raises(Broken, match="not all positive"):
            online.observe(*row)
    with pytest.raises(NoData, match="still learning"):
        OnlineLatency().predict(1, 1)


def test_a_single_load_over_and_over_gives_no_model_and_no_error():
    online = OnlineLatency()
    assert np.isnan(feed(online, np.tile([4.0, 4000.0, 12.0], (100, 1)))).all()


def test_a_load_far_beyond_the_reference_is_not_judged():
    online = settled()
    assert np.isnan(online.observe(512, 512 * 3000, 300.0))


def test_a_restart_goes_on_where_it_stopped():
    one = settled()
    other = OnlineLatency()
    other.restore(from_bytes(to_bytes(one.snapshot())))
    rows = np.concatenate([steps(HOME, 40, 4), steps(HOME.scaled(1.3), 40, 5)])
    assert feed(one, rows) == pytest.approx(feed(other, rows), nan_ok=True, rel=1e-6)
    assert other.changes == one.changes


@pytest.mark.parametrize("state", [{}, {"model": 3}, {"model": {"form": "knee"}, "rows": [1]}])
def test_a_wrong_snapshot_is_refused_and_changes_nothing(state):
    online = settled()
    with pytest.raises(Broken, match="not a snapshot"):
        online.restore(state)
    assert error(online, HOME) < 0.03


def test_known_model_judges_from_the_first_moment_that_the_range_is_known():
    known = Known()
    known.learn("llama-2-7b", "A100", HOME)
    online = OnlineLatency(start=known.start("llama-2-7b", "A100"))
    assert online.predict(8, 8000) == pytest.approx(float(HOME.predict(8, 8000)))
    scores = feed(online, steps(HOME.scaled(1.5), 200))
    assert (scores[80:] >= 1.0).all()


def test_a_nearest_model_helps_before_there_are_data_and_never_judges():
    start = Start(HOME.scaled(2.0), False, ("llama-2-13b", "A100"))
    online = OnlineLatency(start=start)
    scores = feed(online, steps(HOME, 200))
    assert not (scores >= 1.0).any()
    assert error(online, HOME) < 0.03


def test_the_nearest_known_model_is_the_likest():
    known = Known()
    assert known.start("llama-2-7b", "A100") is None
    known.learn("llama-2-70b", "A100", HOME.scaled(6.0))
    known.learn("llama-2-13b", "A100", HOME.scaled(2.0))
    known.learn("llama-2-7b", "H100", HOME.scaled(0.6))
    near = known.start("mistral-7b", "A100")
    assert near is not None
    assert near.origin == ("llama-2-13b", "A100")
    assert near.model.predict(1, 1) == pytest.approx(HOME.scaled(2.0 * 7 / 13).predict(1, 1))
    assert known.start("llama-2-7b", "H200").origin == ("llama-2-7b", "H100")
    assert known.start("llama-2-7b", "H200").exact is False
    assert distance(("a", "x"), ("a", "x")) == 0.0
    assert weights("Meta-Llama-3-8B") == 8.0


def test_known_models_are_bounded_and_survive_a_restart():
    known = Known(most=3)
    for i in range(1, 6):
        known.learn(f"m-{i}b", "A100", HOME.scaled(i))
    assert len(known) == 3
    other = Known()
    other.restore(from_bytes(to_bytes(known.snapshot())))
    assert other.start("m-5b", "A100") == known.start("m-5b", "A100")
    with pytest.raises(Broken, match="not a snapshot"):
        other.restore({"known": [[1, 2]]})


def test_settings_are_checked():
    with pytest.raises(ValueError, match="block <= recent"):
        Config(block=30, recent=20)
    with pytest.raises(ValueError, match="false_alarm"):
        Config(false_alarm=0.7)
