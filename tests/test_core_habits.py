"""What is usual on a host: silent while it learns, new once, bounded, rate-limited, kept across a restart."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etio.core.errors import Broken
from etio.core.frame import NS
from etio.core.habits import Habits, HabitsConfig, common


def learned(**config):
    habits = Habits(HabitsConfig(learn_s=30, **config))
    for t in range(0, 41, 5):
        assert habits.see("program", ("init", "sshd"), (100 + t) * NS) == ()
    assert habits.learned
    return habits


def test_a_novelty_is_told_once_and_only_after_learning():
    habits = learned()
    assert habits.see("program", ("init", "miner"), 145 * NS) == ("miner",)
    assert habits.see("program", ("init", "miner"), 150 * NS) == ()


def test_time_that_nobody_watched_teaches_nothing():
    habits = Habits(HabitsConfig(learn_s=3600))
    for hour in range(1, 10):
        habits.see("program", ("init",), hour * 3600 * NS)
    assert not habits.learned
    assert habits.see("program", ("new",), 10 * 3600 * NS) == ()


def test_a_kind_seen_for_the_first_time_has_no_novelties():
    assert learned().see("port", ("port 80", "port 443"), 145 * NS) == ()


def test_a_kind_with_too_many_novelties_falls_silent_and_says_so():
    habits = learned(per_hour=3)
    told = [habits.see("program", (f"cc{i}",), (200 + i) * NS) for i in range(10)]
    assert sum(map(len, told)) == 3
    assert habits.untold == 7


def test_memory_is_bounded_and_what_was_seen_last_stays():
    habits = learned(most=5, per_hour=100)
    for i in range(50):
        habits.see("program", (f"p{i}",), (200 + i) * NS)
    kept = habits.snapshot()["kinds"]["program"]
    assert set(kept) == {f"p{i}" for i in range(45, 50)}
    assert habits.knows("program", "p49")
    assert not habits.knows("program", "sshd")


def test_what_was_learned_survives_a_restart():
    before = learned()
    habits = Habits(HabitsConfig(learn_s=30))
    habits.restore(json.loads(json.dumps(before.snapshot())))
    assert habits.see("program", ("init", "sshd"), 9000 * NS) == ()
    assert habits.see("program", ("miner",), 9005 * NS) == ("miner",)


@pytest.mark.parametrize("state", [
    {}, {"kinds": [], "watched_ns": 1}, {"kinds": {}, "watched_ns": "1"}, {"kinds": {"a": {"b": "c"}}, "watched_ns": 1},
    {"kinds": {"a": ["b"]}, "watched_ns": 1}, {"kinds": {}, "watched_ns": -1}, {"kinds": {}, "watched_ns": True}])
def test_a_damaged_snapshot_is_refused_and_changes_nothing(state):
    habits = learned()
    with pytest.raises(Broken):
        habits.restore(state)
    assert habits.learned
    assert habits.knows("program", "sshd")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.lists(st.text(max_size=3), max_size=4), st.integers(-5, 10**15))))
def test_any_order_of_sights_and_clocks_is_survived(sights):
    habits = Habits(HabitsConfig(learn_s=0.0, most=4))
    for kind, names, t_ns in sights:
        assert set(habits.see(kind, tuple(names), t_ns)) <= set(names)
    assert all(len(known) <= 8 for known in habits.snapshot()["kinds"].values())


def test_settings_that_make_no_sense_are_refused():
    for bad in ({"learn_s": -1}, {"most": 0}, {"forget_s": 0}, {"per_hour": -1}):
        with pytest.raises(ValueError, match=r"must|above"):
            HabitsConfig(**bad)


def test_numbers_in_names_do_not_matter():
    assert common("worker-17") == common("worker-18")
    assert len(common("x" * 500)) == 120
