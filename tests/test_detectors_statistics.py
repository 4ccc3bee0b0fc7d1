"""Baselines, tails and robust z on data whose truth is known."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.baseline import Baseline, Warmup
from detectors.robust_z import Config, RobustZ, floors
from detectors.tail import Tail, TailConfig, pareto
from etio.core.frame import NS, Frame
from etio.core.series import Series

RNG = np.random.default_rng


def run(detector, values, name="cpu_busy_ratio", unit="ratio", start=1):
    """Scores of one series, one tick a second."""
    series = (Series(name, unit),)
    return np.array([
        detector.step(Frame(i * NS, series, np.array([v], dtype=float))).values[0] for i, v in enumerate(values, start)
    ])


def test_baseline_finds_location_and_spread_of_noise():
    one = Baseline((300.0, 3000.0), 1, Warmup())
    one.columns.grow(1)
    for x in RNG(0).normal(50.0, 4.0, 5000):
        one.step(np.array([[x]]), np.array([0.1]))
    assert one.columns["middle"][:, 0, 0] == pytest.approx(50.0, abs=0.6)
    assert one.columns["spread"][:, 0, 0] == pytest.approx(4.0, rel=0.1)


def test_outliers_hardly_move_the_baseline():
    clean, dirty = (Baseline((600.0,), 1, Warmup()) for _ in range(2))
    noise = RNG(1).normal(10.0, 1.0, 3000)
    hit = noise.copy()
    hit[500::50] += 1000.0
    for one, data in ((clean, noise), (dirty, hit)):
        one.columns.grow(1)
        for x in data:
            one.step(np.array([[x]]), np.array([0.1]))
    assert dirty.columns["middle"][0, 0, 0] == pytest.approx(clean.columns["middle"][0, 0, 0], abs=0.15)
    assert dirty.columns["spread"][0, 0, 0] < 1.15


def test_pareto_fit_knows_heavy_from_light_tails():
    light = RNG(2).exponential(1.0, (64, 200))
    heavy = RNG(3).pareto(1 / 0.4, (64, 200))
    assert np.median(pareto(light)[1]) < 0.12
    assert 0.2 < np.median(pareto(heavy)[1]) < 0.5


def test_pareto_fit_with_empty_places_equals_the_fit_without():
    excess = RNG(4).exponential(2.0, (20, 1))
    padded = np.vstack([excess, np.full((44, 1), np.nan)])
    assert pareto(padded)[0] == pytest.approx(pareto(excess)[0])
    assert pareto(padded)[1] == pytest.approx(pareto(excess)[1])


@pytest.mark.parametrize("draw", ["normal", "laplace", "t5"])
def test_alarm_rate_is_near_the_configured_one(draw):
    """100 streams at 2,000 false alarms a day between them: about 140 in 6000 s, heavy tails included."""
    rng, tail = RNG(5), Tail(TailConfig(false_alarms_per_day=2000.0, least=1.0), 1)
    tail.columns.grow(100)
    sample = {"normal": rng.standard_normal, "laplace": rng.laplace, "t5": lambda size: rng.standard_t(5, size)}[draw]
    alarms = 0
    for i in range(9000):
        raw = np.abs(sample(size=(1, 100)))
        over = tail.step(raw)[0] >= 1
        alarms += int(over.sum()) if i >= 3000 else 0
    assert 30 <= alarms <= 420


def test_a_burstier_series_gets_a_higher_threshold():
    tail = Tail(TailConfig(), 1)
    tail.columns.grow(2)
    rng = RNG(6)
    for _ in range(5000):
        tail.step(np.abs(np.array([[rng.standard_normal(), rng.standard_t(2)]])))
    calm, bursty = tail.threshold[0]
    assert 6 <= calm < 15
    assert bursty > 3 * calm


def test_a_step_is_scored_at_once_and_learned_slowly():
    noise = RNG(7).normal(0.2, 0.02, 1200)
    scores = run(RobustZ(Config()), np.concatenate([noise, RNG(8).normal(0.8, 0.02, 1500)]))
    assert np.isnan(scores[:59]).all()
    assert np.isfinite(scores[61:]).all()
    assert scores[:1200][60:].max() < 1
    assert scores[1200] > 1
    assert (scores[1200:1260] > 1).all(), "a minute of anomaly must not become normal"
    assert (scores[-300:] < 1).all(), "after 20 minutes it is the new normal"


def test_what_was_normal_an_hour_ago_is_no_news():
    day = np.tile(np.concatenate([np.full(600, 0.2), np.full(300, 0.7)]), 6) + RNG(9).normal(0, 0.02, 5400)
    scores = run(RobustZ(Config()), day)
    first, last = scores[600:620].max(), scores[-300:-280].max()
    assert first > 1
    assert last < first / 3


def test_a_change_of_pace_shows_in_the_difference():
    """Readings start to jump about while their mean stays."""
    rng = RNG(10)
    level = np.cumsum(rng.normal(0, 0.001, 1500)) + 0.5
    jumping = level[-1] + 0.2 * np.resize([1.0, -1.0], 30)
    scores = run(RobustZ(Config()), np.concatenate([level, jumping]))
    assert np.nanmax(scores[:1500]) < 1 < scores[1501:].max()


def test_gaps_do_not_teach_and_are_not_bridged():
    detector = RobustZ(Config())
    run(detector, RNG(11).normal(0.2, 0.02, 400))
    before = detector.snapshot()["baseline"]["middle"].copy()
    assert np.isnan(run(detector, [np.nan] * 50, start=401)).all()
    assert np.array_equal(before, detector.snapshot()["baseline"]["middle"])
    far = detector.step(Frame(100_000 * NS, detector._series, np.array([0.2])))
    assert far.values[0] < 1


def test_a_backward_clock_neither_stalls_nor_teaches():
    detector = RobustZ(Config())
    run(detector, RNG(12).normal(0.2, 0.02, 400), start=10_000)
    count = detector.snapshot()["baseline"]["count"][0, 0]
    assert run(detector, [0.9], start=5_000)[0] > 1
    assert detector.snapshot()["baseline"]["count"][0, 0] == count
    run(detector, [0.2, 0.2], start=5_001)
    assert detector.snapshot()["baseline"]["count"][0, 0] == count + 2


@pytest.mark.parametrize(
    ("name", "unit", "rest", "nothing", "much"),
    [
        ("cpu_busy_ratio", "ratio", 0.01, 0.03, 0.9),
        ("disk_read_latency_seconds", "seconds", 1e-4, 2e-3, 0.5),
        ("vm_page_faults_per_second", "1/s", 0.0, 4.0, 5000.0),
        ("memory_anon_bytes", "bytes", 1e9, 1.02e9, 8e9),
        ("gpu_temperature_celsius", "celsius", 40.0, 44.0, 90.0),
        ("something_new", "furlongs", 7.0, 7.3, 70.0),
    ],
)
def test_flat_series_are_not_infinitely_sensitive(name, unit, rest, nothing, much):
    detector = RobustZ(Config())
    run(detector, [rest] * 700, name, unit)
    assert run(detector, [nothing] * 5, name, unit, start=701).max() < 1
    assert run(detector, [much], name, unit, start=706)[0] > 1


def test_band_holds_noise_and_not_the_step():
    detector = RobustZ(Config())
    assert detector.band() is None
    run(detector, RNG(13).normal(0.3, 0.02, 1200))
    band = detector.band()
    assert 0 <= band.low[0] < 0.2 < band.middle[0] < 0.4 < band.high[0] < 0.9


def test_warm_ratio_and_memory():
    detector = RobustZ(Config())
    run(detector, [0.2] * 59)
    assert detector.warm_ratio == 0.0
    run(detector, [0.2], start=60)
    assert detector.warm_ratio == 1.0
    assert detector.bytes_per_series <= 1024


def test_absurd_settings_are_refused():
    for bad in ({"scales_samples": ()}, {"warmup": 400}, {"false_alarms_per_day": 0.0}):
        with pytest.raises(ValueError, match=r"must be|<="):
            Config(**bad)


def test_every_unit_of_the_contract_has_a_floor():
    assert (floors((Series("a", "ratio"), Series("b", "bytes"), Series("c", "parsecs"))) > 0).all()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=1, max_size=150))
def test_any_numbers_give_finite_scores_or_none(values):
    scores = run(RobustZ(Config(warmup=5, settled=10)), values)
    assert not np.isinf(scores).any()
    assert not (scores < 0).any()


def test_importing_the_room_loads_neither_river_nor_scipy():
    code = ("import sys, detectors; detectors.discover(); import detectors.conformance; "
            "print([m for m in ('river', 'scipy', 'pandas', 'statsmodels') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_building_the_river_detectors_loads_no_pandas():
    code = ("import sys; from detectors import discover\n"
            "for spec in discover().values(): spec.build(spec.config())\n"
            "from detectors.drift import Watch, Config; Watch(Config())\n"
            "from detectors.half_space_trees import HalfSpaceTrees; HalfSpaceTrees(1, 1, 2).add(0, ['a'])\n"
            "print([m for m in ('pandas', 'sklearn', 'scipy.stats') if m in sys.modules])\n"
            "import river.anomaly, river.drift; from detectors.river_parts import adwin, half_space_trees\n"
            "print(river.anomaly.HalfSpaceTrees is half_space_trees(), river.drift.ADWIN is adwin())")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "True True"]
