"""Rates, catalogue and frames."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etio.core.builder import Catalogue, FrameBuilder
from etio.core.frame import NS, Reading
from etio.core.rates import Rates
from etio.core.ring import Ring
from etio.core.series import Series, labels

COUNTER = Series("x_per_second", "1/s", "counter")
GAUGE = Series("y_bytes", "bytes")
MEAN = Series("z_latency_seconds", "seconds", "mean")


def reading(*values: float, weights: tuple[float, ...] | None = None) -> Reading:
    return Reading([COUNTER, GAUGE, MEAN], np.array(values), None if weights is None else np.array(weights))


def test_counter_becomes_growth_per_second_gauge_stays_mean_is_growth_over_growth():
    rates = Rates()
    first = rates.step(1 * NS, reading(100, 7, 4.0, weights=(0, 0, 10)))
    second = rates.step(3 * NS, reading(150, 8, 5.0, weights=(0, 0, 14)))
    assert np.isnan(first[[0, 2]]).all(), "the first sight of a counter is no rate"
    assert first[1] == 7
    assert second.tolist() == [25.0, 8.0, 0.25]


def test_counter_that_went_backwards_is_missing_then_goes_on():
    rates = Rates()
    rates.step(1 * NS, reading(100, 0, 0, weights=(0, 0, 0)))
    reset = rates.step(2 * NS, reading(3, 0, 0, weights=(0, 0, 0)))
    after = rates.step(3 * NS, reading(10, 0, 0, weights=(0, 0, 0)))
    assert np.isnan(reset[0])
    assert after[0] == 7


def test_mean_over_nothing_is_missing_not_zero():
    rates = Rates()
    rates.step(1 * NS, reading(0, 0, 5.0, weights=(0, 0, 10)))
    assert np.isnan(rates.step(2 * NS, reading(0, 0, 5.0, weights=(0, 0, 10)))[2])


def test_clock_standing_still_gives_no_rate():
    rates = Rates()
    rates.step(1 * NS, reading(1, 0, 0, weights=(0, 0, 0)))
    assert np.isnan(rates.step(1 * NS, reading(2, 0, 0, weights=(0, 0, 0)))[0])


KINDS = {"counter": COUNTER, "gauge": GAUGE, "mean": MEAN}
NUMBER = st.one_of(st.integers(0, 50).map(float), st.just(np.nan))
TICK = st.dictionaries(st.sampled_from("abc"), st.tuples(st.integers(0, 3), st.lists(NUMBER, min_size=4, max_size=4)))


def expected(kind: str, before: tuple[float, float], now: tuple[float, float], seconds: float) -> float:
    """What a number and its weight mean, by the definition, one at a time."""
    growth = now[0] - before[0] if now[0] >= before[0] else np.nan
    if kind == "gauge":
        return now[0]
    if kind == "counter":
        return growth / seconds
    return growth / (now[1] - before[1]) if now[1] > before[1] else np.nan


@given(st.lists(st.tuples(TICK, st.sampled_from(["", "", "a", "b"])), max_size=8))
def test_many_collectors_at_once_mean_what_each_means_by_itself(ticks):
    """Collectors come, grow, are dropped and come again, and some skip ticks."""
    rates, known, told = Rates(), {}, {}
    for i, (readings, dropped) in enumerate(ticks, 1):
        for name, (extra, numbers) in readings.items():
            _, _, kinds = known.get(name, (0, [], []))
            kinds = (kinds + ["counter", "mean", "gauge"][:extra])[:4]
            series = [KINDS[kind].__class__(f"{name}{n}", "1", kind) for n, kind in enumerate(kinds)]
            pairs = [(numbers[n], numbers[-n - 1]) for n in range(len(kinds))]
            rates.take(name, i * NS, Reading(series, np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])))
            then_s, before, _ = known.get(name, (0, [], []))
            before = before + [(np.nan, np.nan)] * (len(kinds) - len(before))
            told[name] = [expected(k, b, p, i - then_s if then_s else np.nan)
                          for k, b, p in zip(kinds, before, pairs, strict=True)]
            known[name] = (i, pairs, kinds)
        values = rates.finish()
        for name, want in told.items():
            np.testing.assert_array_equal(values[rates.columns(name)], want)
        rates.drop(dropped)
        known.pop(dropped, None)
        told.pop(dropped, None)


def test_two_readings_between_two_frames_are_two_steps():
    rates = Rates()
    for t, raw in ((1, 100.0), (2, 3.0), (3, 10.0)):
        rates.take("a", t * NS, Reading([COUNTER], np.array([raw])))
    assert rates.finish().tolist() == [7.0], "the reset lies between the first two"


def test_series_the_catalogue_refused_spoil_no_other():
    builder = FrameBuilder(Catalogue(limit=2))
    series = [Series(name, "1") for name in "abcd"]
    builder.add("x", NS, Reading(series[:3], np.array([1.0, 2.0, 3.0])), max_age_ns=9 * NS)
    builder.add("y", NS, Reading([series[3], series[0]], np.array([4.0, 5.0])), max_age_ns=NS)
    assert builder.build(NS).values.tolist() == [5.0, 2.0]
    assert builder.build(5 * NS).values.tolist() == [1.0, 2.0], "y is too old by then"


def test_catalogue_refuses_beyond_its_limit_and_counts_it():
    catalogue = Catalogue(limit=2)
    places = catalogue.places([Series("a", "1"), Series("b", "1"), Series("c", "1"), Series("a", "1")])
    assert places.tolist() == [0, 1, -1, 0]
    assert catalogue.refused == {"c": 1}


def test_slow_source_is_held_until_too_old_then_missing():
    builder = FrameBuilder(Catalogue())
    builder.add("slow", 10 * NS, Reading([GAUGE], np.array([5.0])), max_age_ns=3 * NS)
    assert builder.build(12 * NS).values.tolist() == [5.0]
    assert np.isnan(builder.build(14 * NS).values[0])


def test_dropped_collector_goes_missing_at_once():
    builder = FrameBuilder(Catalogue())
    builder.add("a", 10 * NS, Reading([GAUGE], np.array([5.0])), max_age_ns=60 * NS)
    builder.drop("a")
    assert np.isnan(builder.build(10 * NS).values[0])


def test_values_are_float32_exact_so_that_a_replay_sees_the_same():
    builder = FrameBuilder(Catalogue())
    builder.add("a", NS, Reading([GAUGE], np.array([0.1])), max_age_ns=NS)
    value = builder.build(NS).values[0]
    assert value == np.float64(np.float32(0.1)) != 0.1


def test_ring_keeps_the_newest_and_grows_with_the_catalogue():
    builder, ring = FrameBuilder(Catalogue()), Ring(ticks=3)
    for i in range(1, 6):
        series = [Series("v", "1", labels=labels(n=str(k))) for k in range(i)]
        builder.add("a", i * NS, Reading(series, np.arange(i) + i * 10.0), max_age_ns=NS)
        ring.push(builder.build(i * NS))
    window = ring.window(0, 10 * NS)
    assert window.t_ns.tolist() == [3 * NS, 4 * NS, 5 * NS]
    assert window.values.shape == (3, 5)
    assert window.values[:, 0].tolist() == [30, 40, 50]
    assert np.isnan(window.values[0, 4])
    assert window.values[2, 4] == pytest.approx(54)
