"""Rates, catalogue and frames."""

import numpy as np
import pytest

from etio.core.frame import NS, Catalogue, FrameBuilder, Rates, Reading
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
