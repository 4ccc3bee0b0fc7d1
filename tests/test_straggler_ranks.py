"""Slow ranks, heavy stages and uneven work: jobs made up with known truth, one property each."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.straggler import Stragglers
from detectors.straggler_statistics import groups_of, median, median_of_others
from detectors.straggler_wholes import Config
from detectors.straggler_work import Member

pytestmark = pytest.mark.slow

STAGE_FACTORS = np.array([1.0, 1.0, 1.02, 1.3, 1.0, 1.0, 1.0, 1.0])


def job(replicas, stages):
    return tuple(Member(s * replicas + d, s, d) for s in range(stages) for d in range(replicas))


def times(members, steps, noise=0.005, seed=0, factors=(1.0,) * 8):
    """float64[steps, ranks]: the whole job moves by 5 % from step to step, each rank by `noise`."""
    rng = np.random.default_rng(seed)
    base = np.array(factors)[[m.stage for m in members]]
    return base * np.exp(rng.normal(0, 0.05, (steps, 1)) + rng.normal(0, noise, (steps, len(members))))


def uneven(members, steps, spread=0.2, seed=0):
    """Sequence lengths differ between replicas and steps; all stages of a replica see the same."""
    rng = np.random.default_rng(seed)
    work = np.exp(rng.normal(0, spread, (steps, 64)))
    return times(members, steps, seed=seed) * work[:, [m.replica for m in members]]


def told(members, seconds, config=None):
    watch = Stragglers(config or Config())
    return [watch.step(members, row) for row in seconds]


def blamed(said, what="rank"):
    return {s.number for step in said for s in step if s.what == what}


def delay(said, rank, onset):
    return next((i for i, step in enumerate(said[onset:], 1) if rank in blamed([step])), None)


@pytest.mark.parametrize(("replicas", "stages"), [(4, 4), (2, 4), (8, 1), (2, 2), (3, 1)])
@pytest.mark.parametrize(("size", "within"), [(0.05, 5), (0.10, 3), (0.25, 3), (3.0, 3)])
def test_slow_rank_in_every_place(replicas, stages, size, within):
    members = job(replicas, stages)
    for rank in range(len(members)):
        seconds = times(members, 30, seed=rank)
        seconds[20:, rank] *= 1 + size
        said = told(members, seconds)
        assert blamed(said) == {rank}
        assert delay(said, rank, 20) <= within


@pytest.mark.parametrize(("replicas", "stages"), [(4, 4), (2, 4), (16, 1), (2, 1), (1, 4)])
@pytest.mark.parametrize(("noise", "runs"), [(0.005, 0), (0.01, 0), (0.02, 1)])
def test_healthy_jobs_are_quiet(replicas, stages, noise, runs):
    """At twice the noise of balanced jobs one false alarm in 400 steps of a small job is borne."""
    members = job(replicas, stages)
    assert sum(bool(blamed(told(members, times(members, 200, noise, seed)))) for seed in range(2)) <= runs


@pytest.mark.parametrize(("noise", "median_delay"), [(0.02, 4), (0.03, 6)])
def test_ten_percent_is_found_in_noise(noise, median_delay):
    members, delays = job(4, 4), []
    for rank in range(16):
        seconds = times(members, 60, noise, seed=rank)
        seconds[40:, rank] *= 1.1
        delays.append(delay(told(members, seconds), rank, 40) or 99)
    assert np.median(delays) <= median_delay
    assert max(delays) < 20


def test_slow_from_the_first_step_is_held_against_peers():
    members = job(4, 4)
    seconds = times(members, 20) * np.where(np.arange(16) == 5, 1.25, 1.0)
    said = told(members, seconds)
    assert blamed(said) == {5}
    assert delay(said, 5, 0) <= 4
    assert said[-1][0].against == "peers"
    assert said[-1][0].ratio == pytest.approx(1.25, rel=0.03)


def test_of_two_peers_a_clear_difference_is_needed_at_first():
    members = job(2, 4)
    for factor, expected in ((1.04, set()), (1.25, {3})):
        seconds = times(members, 20) * np.where(np.arange(8) == 3, factor, 1.0)
        assert blamed(told(members, seconds)) == expected


def test_heavy_stage_is_no_slow_rank():
    members = job(2, 4)
    said = told(members, times(members, 40, factors=STAGE_FACTORS))
    assert blamed(said) == set()
    assert blamed(said, "stage") == {3}


def test_stage_that_becomes_heavy_is_no_slow_rank():
    members = job(4, 4)
    seconds = times(members, 60)
    seconds[30:, 4:8] *= 1.3
    said = told(members, seconds)
    assert blamed(said) == set()
    assert blamed(said, "stage") == {1}


def test_slow_rank_within_a_heavy_stage():
    members = job(4, 4)
    seconds = times(members, 40, factors=STAGE_FACTORS)
    seconds[25:, 14] *= 1.08
    said = told(members, seconds)
    assert blamed(said) == {14}
    assert blamed(said, "stage") == {3}


def test_job_that_slows_down_together_blames_nobody():
    members = job(4, 4)
    seconds = times(members, 60)
    seconds[30:] *= 1.5
    assert not any(told(members, seconds))


@pytest.mark.parametrize(("replicas", "stages"), [(32, 2), (8, 4), (16, 1)])
def test_uneven_sequence_lengths_blame_nobody(replicas, stages):
    members = job(replicas, stages)
    for seed in range(3):
        said = told(members, uneven(members, 45, seed=seed))
        assert not any(said)


def test_slow_rank_among_uneven_sequence_lengths():
    members = job(8, 4)
    seconds = uneven(members, 50)
    seconds[30:, 9] *= 1.1
    said = told(members, seconds)
    assert blamed(said) == {9}
    assert delay(said, 9, 30) <= 4


def test_replica_that_is_slow_in_every_stage_is_told_as_a_whole():
    members = job(4, 4)
    seconds = times(members, 50)
    seconds[30:, [m.replica == 2 for m in members]] *= 1.3
    said = told(members, seconds)
    assert blamed(said) == set()
    assert blamed(said, "replica") == {2}


def test_single_spikes_are_no_slowdown():
    members = job(4, 4)
    for seed in range(4):
        rng, seconds = np.random.default_rng(seed), times(members, 150, seed=seed)
        spikes = rng.random(seconds.shape) < 0.01
        assert not any(told(members, np.where(spikes, seconds * 3, seconds)))


def test_two_slow_steps_in_a_row_are_no_slowdown():
    members, seconds = job(4, 4), times(job(4, 4), 40)
    seconds[20:22, 7] *= 2.0
    assert not any(told(members, seconds))


def test_lasting_slowdown_stays_told_and_recovery_ends_it():
    members, seconds = job(4, 4), times(job(4, 4), 400)
    seconds[30:330, 6] *= 1.06
    said = told(members, seconds)
    assert all(blamed([step]) == {6} for step in said[36:330])
    assert not any(said[340:])
    assert {s.since for step in said[40:330] for s in step} == {30}


def test_faster_peer_makes_nobody_slow():
    for members in (job(2, 1), job(2, 4), job(4, 2)):
        seconds = times(members, 60)
        seconds[30:, 1] *= 0.85
        assert not any(told(members, seconds))


def test_two_slow_ranks_at_once():
    members, seconds = job(4, 4), times(job(4, 4), 50)
    seconds[30:, 2] *= 1.1
    seconds[34:, 9] *= 1.1
    assert blamed(told(members, seconds)) == {2, 9}


def test_missing_values_are_neither_slow_nor_an_end():
    members, seconds = job(4, 4), times(job(4, 4), 60)
    seconds[25:, 3] *= 1.1
    seconds[np.random.default_rng(1).random(seconds.shape) < 0.2] = np.nan
    seconds[50:53] = np.nan
    said = told(members, seconds)
    assert blamed(said) == {3}
    assert blamed([said[52]]) == {3}


def test_ranks_come_and_go():
    members, seconds = job(4, 4), times(job(4, 4), 160)
    seconds[60:, 11] *= 1.1
    watch, said = Stragglers(Config()), []
    for i, row in enumerate(seconds):
        here = [k for k in range(16) if not (k in (2, 3) and 20 <= i < 80) and not (k == 8 and i < 10)]
        said.append(watch.step([members[k] for k in here], row[here]))
    assert blamed(said) == {11}


def test_rank_that_was_away_long_is_new():
    members, seconds = job(4, 4), times(job(4, 4), 120)
    seconds[80:, 5] *= 1.3
    watch = Stragglers(Config())
    for i, row in enumerate(seconds):
        here = [k for k in range(16) if k != 5 or i < 30 or i >= 80]
        said = watch.step([members[k] for k in here], row[here])
    assert [(s.number, s.against) for s in said] == [(5, "peers")]


def test_order_of_the_members_does_not_matter():
    members, seconds = job(4, 2), times(job(4, 2), 40)
    seconds[20:, 6] *= 1.07
    turned = np.random.default_rng(2).permutation(8)
    want = told(members, seconds)
    got = told(tuple(members[i] for i in turned), seconds[:, turned])
    assert [{str(s) for s in a} for a in want] == [{str(s) for s in b} for b in got]


def test_scale_of_the_clock_does_not_matter():
    members, seconds = job(4, 2), times(job(4, 2), 40)
    seconds[20:, 6] *= 1.07
    want, got = told(members, seconds), told(members, seconds * 1024.0)
    assert [[str(s) for s in step] for step in want] == [[str(s) for s in step] for step in got]


def test_says_it_in_words():
    members, seconds = job(4, 1), times(job(4, 1), 30)
    seconds[20:, 1] *= 1.5
    assert str(told(members, seconds)[-1][0]).startswith("rank 1 computes ")


def test_nobody_and_one_alone():
    watch = Stragglers(Config())
    assert watch.step((), np.empty(0)) == ()
    for i in range(30):
        assert watch.step((Member(0),), np.array([1.0 + (i > 20)])) == ()


def test_wrong_lengths_are_refused():
    with pytest.raises(ValueError, match="one value"):
        Stragglers(Config()).step(job(2, 1), np.ones(3))
    with pytest.raises(ValueError, match="each named once"):
        Stragglers(Config()).step((Member(0), Member(0)), np.ones(2))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=6, max_size=6), max_size=25))
def test_any_numbers_are_borne(rows):
    watch = Stragglers(Config())
    for row in rows:
        for slow in watch.step(job(3, 2), np.array(row)):
            assert slow.ratio > 1.0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(-1e6, 1e6) | st.just(np.nan), st.integers(0, 3)), min_size=1, max_size=12))
def test_median_of_others_is_what_it_says(pairs):
    x, labels = np.array([p[0] for p in pairs]), [p[1] for p in pairs]
    got = median_of_others(x, groups_of(labels))
    for i in range(len(x)):
        others = [x[k] for k in range(len(x)) if k != i and labels[k] == labels[i] and np.isfinite(x[k])]
        if others and np.isfinite(x[i]):
            assert got[i] == pytest.approx(np.median(others))
        else:
            assert np.isnan(got[i])
    if np.isfinite(x).any():
        assert median(x) == pytest.approx(np.nanmedian(x))
