"""Iterations found in what a job does, and its own history."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.straggler_period import (
    HistoryConfig,
    SelfHistory,
    iteration_seconds,
    period_of_activity,
    period_of_codes,
)


def step_codes(batches):
    return ["send", "forward", "backward"] * batches + ["reduce", "gather", "optimizer"]


@pytest.mark.parametrize("batches", [1, 4, 8, 32])
def test_inner_loop_is_not_the_iteration(batches):
    assert period_of_codes(step_codes(batches) * 6) == 3 * batches + 3


def test_one_collective_over_and_over():
    assert period_of_codes(["allreduce"] * 31 * 5) == 1
    assert period_of_codes((["allreduce"] * 31 + ["broadcast"]) * 5) == 32


def test_no_period_no_answer():
    rng = np.random.default_rng(0)
    assert period_of_codes(rng.integers(0, 6, 500).tolist()) is None
    assert period_of_codes(step_codes(8) * 2) is None
    assert period_of_codes([]) is None
    assert iteration_seconds(rng.integers(0, 6, 500).tolist(), np.arange(500.0)).size == 0


def test_lost_operations_change_little():
    rng = np.random.default_rng(1)
    codes = step_codes(6) * 30
    start = np.repeat(np.arange(30.0), 21) + np.tile(np.arange(21) / 40.0, 30)
    kept = np.sort(rng.choice(len(codes), len(codes) - 4, replace=False))
    seconds = iteration_seconds([codes[i] for i in kept], start[kept])
    assert np.median(seconds) == pytest.approx(1.0)
    assert len(seconds) >= 24


def test_activity():
    rng = np.random.default_rng(2)
    t = np.arange(240)
    busy = np.where(t % 17 < 13, 0.95, 0.2) + rng.normal(0, 0.05, 240)
    assert period_of_activity(busy) == pytest.approx(17, abs=0.3)
    busy[50:60] = np.nan
    assert period_of_activity(busy) == pytest.approx(17, abs=0.3)
    assert period_of_activity(rng.normal(0, 1, 240)) is None
    assert period_of_activity(np.full(240, 0.5)) is None
    assert period_of_activity(np.full(240, np.nan)) is None


def feed(values, config=None):
    history = SelfHistory(config or HistoryConfig())
    return [history.step(v) for v in values]


def test_lasting_slowdown_stays_and_ends_with_recovery():
    rng = np.random.default_rng(3)
    times = np.exp(rng.normal(0, 0.02, 300))
    times[100:220] *= 1.15
    told = feed(times)
    assert not any(told[:105])
    assert all(told[115:220])
    assert told[200].first == 100
    assert told[200].after_s / told[200].before_s == pytest.approx(1.15, rel=0.02)
    assert not any(told[230:])


@pytest.mark.parametrize(("factor", "length"), [(1.07, 100), (2.0, 8), (1.3, 9)])
def test_small_or_short_is_not_told(factor, length):
    times = np.exp(np.random.default_rng(4).normal(0, 0.02, 200))
    times[60 : 60 + length] *= factor
    assert not any(feed(times))


def test_noise_and_spikes_are_not_told():
    rng = np.random.default_rng(5)
    times = np.exp(rng.normal(0, 0.03, 1000)) * np.where(rng.random(1000) < 0.03, 2.0, 1.0)
    assert not any(feed(times))


def test_faster_job_gets_a_new_baseline():
    told = feed([1.0] * 40 + [0.5] * 60 + [0.6] * 30)
    assert not any(told[:100])
    assert told[-1].before_s == pytest.approx(0.5)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=80))
def test_any_number_is_borne(values):
    told = feed(values)
    times = [v for v in values if np.isfinite(v) and v > 0]
    assert not any(told[:HistoryConfig().known])
    assert all(one is None or min(times) <= one.before_s <= one.after_s <= max(times) * (1 + 1e-9) for one in told)
    assert len(times) > HistoryConfig().known or not any(told)
    period = period_of_activity(np.array([v if abs(v) < 1e100 else np.nan for v in values]))
    assert period is None or 0 < period < len(values)
