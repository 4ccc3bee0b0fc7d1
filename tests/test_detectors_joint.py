"""The fused score and its parts on data whose truth is known."""

import numpy as np
import pytest

from detectors.fusion import Fusion, FusionConfig
from detectors.joint import GROUPS, Config, Joint
from detectors.moments import CLIP, FIRST, Moments
from detectors.threshold import Budget, Threshold
from detectors.var import Var, VarConfig
from etio.core.errors import Broken
from etio.core.frame import NS, Frame
from etio.core.series import Series, labels

RNG = np.random.default_rng
FLOOR = np.array(0.01)


def test_moments_find_mean_and_spread_and_bound_one_sample():
    one = Moments((1,), (100.0, 1000.0))
    for x in RNG(1).normal(50.0, 4.0, 4000):
        one.step(np.array([x]), 0.1)
    assert one.middle[:, 0] == pytest.approx([50.0, 50.0], abs=1.0)
    assert np.sqrt(one.power[:, 0]) == pytest.approx([4.0, 4.0], rel=0.2)
    before, spread = one.middle[1, 0], np.sqrt(one.power[1, 0])
    z = one.step(np.array([1e9]), 0.1)
    assert z[1, 0] > 1e8
    assert one.middle[1, 0] - before <= CLIP * spread / 1000.0 * 1.01


def test_moments_say_nothing_before_they_know_and_learn_nothing_from_gaps():
    one = Moments((2,), (100.0,))
    for _ in range(FIRST):
        assert np.isnan(one.step(np.array([1.0, np.nan]), 0.1)).all()
    assert np.isfinite(one.step(np.array([1.0, np.nan]), 0.1)).tolist() == [[True, False]]
    assert one.count.tolist() == [FIRST + 1, 0]


def coupled(rows, seed=2):
    """The second series follows the first one sample later."""
    rng = RNG(seed)
    lead = rng.normal(0, 1, rows + 1)
    return np.stack([lead[1:], 0.9 * lead[:-1] + rng.normal(0, 0.1, rows)], axis=1)[:, None]


def test_autoregression_learns_who_follows_whom_and_sees_when_it_stops():
    one, x = Var(1, 2, VarConfig(first=120)), coupled(2000)
    error = np.array([one.step(row)[0] for row in x])
    assert np.std(error[:100, 1]) > 0.5
    assert np.std(error[1000:, 1]) < 0.15
    broken = np.array([one.step(row[:, ::-1] * [[1.0, -1.0]])[0] for row in coupled(20, seed=3)])
    assert np.std(broken[:, 1]) > 0.5


def test_autoregression_equals_ridge_regression():
    config = VarConfig(lags=2, refit=50, memory=1e12, ridge=3.0, first=50)
    one, x = Var(1, 3, config), RNG(4).normal(size=(200, 1, 3))
    for row in x:
        one.step(row)
    padded = np.concatenate([np.zeros((2, 3)), x[:, 0]])
    inputs = np.column_stack([np.ones(200), padded[1:-1], padded[:-2]])
    penalty = 3.0 * np.eye(7)
    penalty[0, 0] = 1e-6
    assert one.weights[0] == pytest.approx(np.linalg.solve(inputs.T @ inputs + penalty, inputs.T @ x[:, 0]))


def test_a_cleared_series_leaves_no_trace():
    one = Var(1, 2, VarConfig(first=60))
    for row in coupled(600):
        one.step(row)
    one.clear(0, 0)
    assert not one.weights[0, 1::2].any()
    assert not one.weights[0, :, 0].any()


def test_budget_counts_alarms_and_shrinks():
    maxima = np.arange(96.0)[:, None]
    assert Budget(alarms_per_day=0.5, trust=1.0).level(maxima)[0] == 91.0
    assert Budget(alarms_per_day=0.5, trust=0.5, prior=1.0).level(maxima)[0] == 46.0
    assert Budget(trust=0.0, prior=1.0).level(maxima)[0] == 1.0
    assert Budget(prior=1.0).level(np.full((96, 1), np.nan))[0] == 1.0
    with pytest.raises(ValueError, match="trust"):
        Budget(trust=1.5)


def test_threshold_follows_the_stream_and_not_the_present():
    one = Threshold(1, Budget(alarms_per_day=2.0, trust=1.0, prior=5.0, block=10))
    assert one.step(np.array([100.0]))[0] == pytest.approx(5.0 + np.log(11.0))
    for _ in range(900):
        one.step(np.array([1.0]))
    assert one.step(np.array([9.0]))[0] == pytest.approx(1.0, abs=0.02)


def calm_and_fault(config, fault, rows=1500):
    rng, one = RNG(5), Fusion(1, 8, config)
    base = rng.normal(0.3, 0.05, (rows, 1, 8))
    for row in base:
        look = one.step(row, FLOOR)
    calm = look.alarm[0] - look.threshold[0]
    for row in fault(rng.normal(0.3, 0.05, (5, 1, 8))):
        look = one.step(row, FLOOR)
    return calm, look


def test_fusion_sees_a_shift_and_names_its_carriers():
    def fault(x):
        x[..., [2, 5]] += 1.5
        return x
    calm, look = calm_and_fault(FusionConfig(period_s=60.0), fault)
    assert calm < 0 < look.alarm[0] - look.threshold[0]
    assert set(np.argsort(-look.carriers[0])[:2].tolist()) == {2, 5}


def test_fusion_without_values_knows_nothing():
    _, look = calm_and_fault(FusionConfig(period_s=60.0), lambda x: np.full_like(x, np.nan))
    assert np.isnan(look.alarm).all()


def test_groups_step_alone():
    """A group among others gets the scores it would get by itself."""
    config, x = FusionConfig(period_s=300.0), RNG(6).normal(0.3, 0.05, (400, 3, 4))
    together, alone = Fusion(3, 4, config), Fusion(1, 4, config)
    for row in x:
        looks = together.step(row, FLOOR), alone.step(row[1:2], FLOOR)
        np.testing.assert_allclose(looks[0].alarm[1], looks[1].alarm[0], rtol=1e-9)


def test_absurd_settings_are_refused():
    for bad in ({"scales_h": ()}, {"period_s": -1.0}, {"smooth": 0.5}, {"lags": 0}):
        with pytest.raises(ValueError, match=r"must|least|>="):
            Fusion(1, 1, FusionConfig(**bad))
    for bad in ({"every": 0}, {"series": 0}, {"trust": 2.0}):
        with pytest.raises(ValueError, match=r"must|0\.\.1"):
            Joint(Config(**bad))


DISKS = tuple(Series("disk_busy_ratio", "ratio", labels=labels(device=f"d{i}")) for i in range(60))


def stepped(detector, series, values, ticks, start=1):
    for i in range(start, start + ticks):
        scores = detector.step(Frame(i * NS, series, np.asarray(values, dtype=float)))
    return dict(zip(GROUPS, scores.values, strict=True))


def test_a_full_group_takes_a_newcomer_for_one_long_gone():
    detector = Joint(Config(every=1, series=40, tick_s=60.0))
    stepped(detector, DISKS[:40], np.full(40, 0.2), 100)
    gone = np.full(41, 0.2)
    stepped(detector, DISKS[:41], gone, 5, start=101)
    disk = GROUPS.index("disk")
    assert DISKS[40].key not in detector._keys[disk]
    gone[7] = np.nan
    stepped(detector, DISKS[:41], gone, 70, start=106)
    stepped(detector, DISKS[:42], np.append(gone, 0.2), 1, start=176)
    assert detector._keys[disk][7] == DISKS[41].key
    assert len(detector._keys[disk]) == 40


def test_the_host_takes_two_of_a_kind():
    detector = Joint(Config())
    stepped(detector, DISKS, np.full(60, 0.2), 1)
    assert len(detector._keys[GROUPS.index("host")]) == 2


def test_a_fault_of_one_subsystem_is_told_of_it():
    names = ("cpu_busy_ratio", "cpu_runnable_per_core", "disk_busy_ratio", "disk_queue_length")
    series = tuple(Series(n, "ratio") for n in names)
    detector, rng = Joint(Config(every=1, tick_s=10.0)), RNG(7)
    for i in range(1, 600):
        x = rng.normal(0.2, 0.02, 4) + (i > 594) * np.array([0.0, 0.0, 0.7, 0.7])
        scores = detector.step(Frame(10 * i * NS, series, x))
    got = dict(zip(GROUPS, scores.values, strict=True))
    assert got["disk"] > 1 > got["cpu"]
    assert np.isnan(got["gpu"])
    carriers = detector.carriers("disk")
    assert {s.name for s, _ in carriers} == {"disk_busy_ratio", "disk_queue_length"}
    assert sum(share for _, share in carriers) == pytest.approx(1.0)


def test_a_change_over_a_gap_is_not_judged():
    series, detector = (Series("cpu_busy_ratio", "ratio"),), Joint(Config(every=1))
    for i in range(1, 200):
        detector.step(Frame(i * NS, series, np.array([0.2])))
    detector.step(Frame(9000 * NS, series, np.array([0.2])))
    assert detector._fusion._last[0, 0] == 0.2
    later = detector.step(Frame(9001 * NS, series, np.array([0.2])))
    assert later.values[0] < 1


@pytest.mark.parametrize("part", ["fusion", "keys", "scores", "absent", "ticks"])
def test_a_damaged_part_is_refused(part):
    detector = Joint(Config(every=1))
    stepped(detector, DISKS[:2], [0.2, 0.2], 50)
    state = dict(detector.snapshot())
    state[part] = {"fusion": {}, "keys": [["a"]], "scores": np.zeros(1), "absent": np.zeros(3), "ticks": "x"}[part]
    with pytest.raises(Broken):
        Joint(Config(every=1)).restore(state, ())
