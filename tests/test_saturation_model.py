"""T(B, S): physical properties of every form, recovery of planted parameters, the choice of form, bad input."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.saturation import FORMS, SeedModel, StepModel, from_plain, to_plain
from detectors.saturation_fit import Rows, fit, fit_form, held_out_error, non_negative, rows
from detectors.saturation_statistics import mann_whitney, smirnov
from etio.core.errors import Broken, EtioError, NoData
from tests.property_rig import outcome

GRID = [(b, b * length) for b in (1, 2, 4, 8, 16, 32, 64) for length in (64, 192, 384, 768, 1536, 3072)]
BATCH, TOKENS = np.array(GRID, dtype=float).T
THREE = StepModel("three_parameter", 10.0, 10.0, 0.12, 2e-4)
WIDE = StepModel("saturating", 7.0, 11.0, 0.1, 1e-4, 5e-4)
IDLE = StepModel("saturating", 19.0, 10.0, 0.0, 2e-5, 2e-4)
KNEE = StepModel("knee", 14.0, 16.0, 0.1, 1e-4, 1e-4, 40_000.0)
SEED = SeedModel(4.0, 5.0, 2e-4, 0.05, 1e-5, 0.2, 1e-3)
PLANTED = [THREE, WIDE, IDLE, KNEE, SEED]


def noisy(model, noise=0.02, seed=0):
    ms = model.predict(BATCH, TOKENS)
    return ms * np.exp(np.random.default_rng(seed).normal(0.0, noise, len(ms)))


@pytest.mark.parametrize("planted", PLANTED, ids=lambda m: f"{m.form}-{m.per_sequence_ms}")
def test_every_form_recovers_what_was_planted(planted):
    found = fit_form(planted.form, BATCH, TOKENS, planted.predict(BATCH, TOKENS))
    assert found.error < (0.01 if planted.form == "seed" else 1e-3)
    assert found.model.predict(BATCH, TOKENS) == pytest.approx(planted.predict(BATCH, TOKENS), rel=0.02)


def test_parameters_themselves_come_back_where_they_can_be_known():
    found = fit_form("knee", BATCH, TOKENS, KNEE.predict(BATCH, TOKENS)).model
    assert found.knee_tokens == pytest.approx(40_000.0, rel=0.03)
    assert found.single_ms == pytest.approx(14.0, rel=0.02)
    assert found.full_ms == pytest.approx(16.0, rel=0.02)
    three = fit_form("three_parameter", BATCH, TOKENS, THREE.predict(BATCH, TOKENS)).model
    assert (three.single_ms, three.per_sequence_ms, three.per_token_ms) == pytest.approx((10.0, 0.12, 2e-4), rel=1e-5)


def by_hand(peak, work0, work1):
    throughput = peak * (1 - np.exp(-0.2 * BATCH)) * (1 - np.exp(-1e-3 * TOKENS))
    return 4.0 + (work0 + work1 * TOKENS) / throughput + 0.05 * BATCH + 1e-5 * TOKENS


def test_of_the_seeds_formula_only_ratios_to_the_peak_exist():
    assert by_hand(1.0, 5.0, 2e-4) == pytest.approx(SEED.predict(BATCH, TOKENS))
    one, other = by_hand(1.0, 5.0, 2e-4), by_hand(3.0, 15.0, 6e-4)
    assert one == pytest.approx(other, rel=1e-12), "no data can tell a peak of 1 from a peak of 3"
    found = [fit_form("seed", BATCH, TOKENS, ms).model for ms in (one, other)]
    assert found[0].predict(BATCH, TOKENS) == pytest.approx(found[1].predict(BATCH, TOKENS), rel=1e-6)
    assert found[0].batch_rate == pytest.approx(found[1].batch_rate)


@pytest.mark.parametrize(("planted", "allowed"), [
    (THREE, {"three_parameter"}), (WIDE, {"saturating"}), (IDLE, {"saturating"}), (KNEE, {"knee"}),
], ids=["three", "wide", "idle", "knee"])
def test_held_out_error_picks_the_form_that_made_the_data(planted, allowed):
    chosen = [fit(BATCH, TOKENS, noisy(planted, 0.02, seed)).model.form for seed in range(6)]
    assert sum(form in allowed for form in chosen) >= 5, chosen


def test_the_choice_is_the_one_with_the_smaller_held_out_error():
    kept = rows(BATCH, TOKENS, noisy(KNEE))
    errors = {form: held_out_error(form, kept) for form in FORMS}
    assert errors["knee"] < 0.9 * errors["saturating"]
    assert fit(BATCH, TOKENS, kept.ms).held_out == pytest.approx(errors)


loads = st.tuples(st.integers(1, 256), st.integers(1, 4096))
times = st.floats(0.01, 1e4)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(loads, times), min_size=3, max_size=40, unique_by=lambda one: one[0]))
def test_any_positive_data_give_a_positive_model_that_rises_with_tokens(data):
    b = np.array([load[0] for load, _ in data], float)
    s = b * np.array([load[1] for load, _ in data], float)
    found = fit(b, s, [ms for _, ms in data])
    grid = np.geomspace(1.0, 1e6, 40)
    for batch in (1, 2, 7, 64, 300):
        t = found.model.predict(batch, batch * grid)
        assert np.isfinite(t).all()
        assert (t > 0).all()
        if found.model.form != "seed":
            assert (np.diff(t) >= -1e-9 * t[1:]).all()
    assert all(v is None or isinstance(v, str) or v >= 0 for v in to_plain(found.model).values())


@settings(max_examples=60, deadline=None)
@given(st.floats(0.1, 50), st.floats(0, 50), st.floats(0, 1), st.floats(0, 1e-2), st.floats(0, 1e-2),
       st.floats(100, 1e6))
def test_monotone_in_batch_keeps_its_word(single, full, per_sequence, per_token, per_length, knee):
    model = StepModel("knee", single, full, per_sequence, per_token, per_length, knee)
    batch = np.arange(1, 400)
    for length in (1, 200, 5000):
        falls = np.diff(model.predict(batch, batch * length)) < -1e-9
        assert not (model.monotone_in_batch and falls.any())


@pytest.mark.parametrize("factor", [1e-3, 0.5, 1000.0])
@pytest.mark.parametrize("planted", PLANTED, ids=lambda m: f"{m.form}-{m.per_sequence_ms}")
def test_other_units_of_time_change_nothing_but_the_unit(planted, factor):
    ms = noisy(planted)
    one, other = fit(BATCH, TOKENS, ms), fit(BATCH, TOKENS, factor * ms)
    assert one.model.form == other.model.form
    assert other.model.predict(BATCH, TOKENS) == pytest.approx(factor * one.model.predict(BATCH, TOKENS), rel=1e-5)
    assert one.model.scaled(factor).predict(BATCH, TOKENS) == pytest.approx(
        other.model.predict(BATCH, TOKENS), rel=1e-5)


def test_the_order_of_rows_and_repeated_weights_do_not_matter():
    ms, order = noisy(WIDE), np.random.default_rng(1).permutation(len(BATCH))
    one = fit(BATCH, TOKENS, ms).model.predict(BATCH, TOKENS)
    assert fit(BATCH[order], TOKENS[order], ms[order]).model.predict(BATCH, TOKENS) == pytest.approx(one, rel=1e-6)
    twice = fit_form("saturating", BATCH, TOKENS, ms, np.full(len(ms), 2.0)).model.predict(BATCH, TOKENS)
    assert twice == pytest.approx(fit_form("saturating", BATCH, TOKENS, ms).model.predict(BATCH, TOKENS), rel=1e-6)


def test_a_failed_run_that_reports_no_time_does_not_own_the_fit():
    ms = noisy(THREE)
    broken = ms.copy()
    broken[TOKENS / BATCH == 3072] = 0.02
    found = fit(BATCH, TOKENS, broken)
    good = TOKENS / BATCH < 3072
    assert found.left_out == 7
    assert found.model.predict(BATCH, TOKENS)[good] == pytest.approx(THREE.predict(BATCH, TOKENS)[good], rel=0.05)


def test_two_quite_different_halves_are_not_called_implausible():
    ms = np.where(np.arange(len(BATCH)) % 2, 10.0, 1000.0)
    assert fit(BATCH, TOKENS, ms).left_out == 0


@pytest.mark.parametrize(("batch", "tokens", "ms", "kind", "says"), [
    ([], [], [], NoData, "no observation"),
    ([4], [400], [10.0], NoData, "1 distinct"),
    ([4, 4, 4], [400, 400, 400], [10.0, 11.0, 9.0], NoData, "1 distinct"),
    ([1, 2, 4], [10, 20, 30], [10.0, np.nan, 9.0], Broken, "row 1: time nan"),
    ([1, 2, 4], [10, 20, -5], [10.0, 9.0, 9.0], Broken, "row 2: token count -5"),
    ([0, 2, 4], [10, 20, 30], [10.0, 9.0, 9.0], Broken, "row 0: batch size 0"),
    ([1, 2, 4], [10, 20, 30], [10.0, np.inf, 9.0], Broken, "row 1: time inf"),
    ([1, 2], [10, 20, 30], [1.0, 2.0, 3.0], Broken, "2 batch sizes, 3 token counts"),
])
def test_bad_input_is_refused_with_the_place(batch, tokens, ms, kind, says):
    with pytest.raises(kind, match=says):
        fit(batch, tokens, ms)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.floats(), st.floats(), st.floats()), max_size=6))
def test_no_numbers_raise_anything_but_the_typed_errors(data):
    found = outcome(lambda: fit([b for b, _, _ in data], [s for _, s, _ in data], [t for _, _, t in data]), EtioError)
    if found is not None:
        assert found.rows + found.left_out == len(data)
        assert (np.array(data) > 0).all()
        assert found.batch_max <= max(b for b, _, _ in data)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(0, 2**31))
def test_non_negative_least_squares_agrees_with_another_solver(p, seed):
    from scipy.optimize import nnls

    random = np.random.default_rng(seed)
    a, target = random.normal(size=(5, 12, p)), random.normal(size=(5, 12))
    found = non_negative(a.transpose(0, 2, 1) @ a, np.einsum("mnp,mn->mp", a, target))
    for k in range(5):
        assert np.linalg.norm(a[k] @ found[k] - target[k]) == pytest.approx(nnls(a[k], target[k])[1], rel=1e-6)


def test_columns_that_say_the_same_are_no_trouble():
    a = np.array([[1.0, 1.0, 0.0], [2.0, 2.0, 0.0], [3.0, 3.0, 0.0]])
    found = non_negative((a.T @ a)[None], (a.T @ np.array([1.0, 2.0, 3.0]))[None])[0]
    assert a @ found == pytest.approx([1.0, 2.0, 3.0], rel=1e-6)
    assert found[2] == 0.0


def test_one_batch_size_only_still_fits():
    tokens = 16 * np.array([100.0, 200, 400, 800, 1600, 3200, 6400, 9000, 12000, 15000, 18000, 20000])
    found = fit(np.full(12, 16.0), tokens, WIDE.predict(16, tokens))
    assert found.model.predict(16, tokens) == pytest.approx(WIDE.predict(16, tokens), rel=1e-3)


@pytest.mark.parametrize("planted", PLANTED, ids=lambda m: f"{m.form}-{m.per_sequence_ms}")
def test_models_survive_json(planted):
    assert from_plain(json.loads(json.dumps(to_plain(planted)))) == planted


def test_rows_know_their_distinct_loads():
    one = Rows(np.array([1.0, 2, 1]), np.array([5.0, 6, 5]), np.ones(3), np.ones(3))
    assert one.loads().tolist() == [0, 1, 0]


@pytest.mark.parametrize(("n", "m", "shift"), [(20, 60, 0.0), (20, 60, 0.8), (40, 40, 0.4), (25, 200, 1.5)])
def test_two_sample_tests_agree_with_another_library(n, m, shift):
    from scipy import stats

    random = np.random.default_rng(n + m)
    a, b = random.normal(shift, 1.0, n).round(1), random.normal(0.0, 1.0, m).round(1)
    distance, p = smirnov(a, b)
    theirs = stats.ks_2samp(a, b, method="asymp")
    assert distance == pytest.approx(theirs.statistic)
    assert p == pytest.approx(theirs.pvalue, rel=0.5, abs=0.02)
    assert mann_whitney(a, b) == pytest.approx(
        stats.mannwhitneyu(a, b, alternative="greater", method="asymptotic").pvalue, rel=1e-6, abs=1e-12)


def test_two_sample_tests_on_nothing_say_nothing():
    assert smirnov([], [1.0]) == (0.0, 1.0)
    assert mann_whitney([1.0], []) == 1.0
    assert mann_whitney([2.0, 2.0], [2.0, 2.0, 2.0]) == 1.0
    assert smirnov([1.0, 2.0], [1.0, 2.0])[1] == 1.0
