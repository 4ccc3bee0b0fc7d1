"""Measures: robust baselines, lasting onsets, coverage; units and names as people read them."""

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etio.core.frame import NS
from etio.core.ports import Window
from rca import escape, units
from rca.case import Case, RcaConfig
from rca.evidence import Measure, measure, rising_share
from rca.units import clean, humanise
from tests import incident_builder as build


def measured(values: np.ndarray, unit: str = "cpu_busy_ratio", onset_at: int = 600) -> Measure:
    """One series whose sample `onset_at` is the onset of the incident."""
    t_ns = build.ONSET_NS + (np.arange(len(values)) - onset_at) * NS
    now = int(t_ns[-1])
    incident = build.incident_of({"alerts": [{"name": "CpuSaturated", "lag": 0}]}, now)
    window = Window((build.series_of(unit),), t_ns, values.reshape(-1, 1).astype(float))
    return measure(window, Case(incident, now, "h", RcaConfig()))[0]


def test_doctests() -> None:
    assert doctest.testmod(units).failed == 0
    assert doctest.testmod(escape).failed == 0


def test_a_step_is_dated_to_its_second_and_the_baseline_is_what_was_before() -> None:
    values = np.r_[np.full(597, 0.10), np.full(18, 0.95)]
    found = measured(values)
    assert found.baseline == pytest.approx(0.10)
    assert found.now == pytest.approx(0.95)
    assert found.onset_ns == build.ONSET_NS - 3 * NS
    assert found.unusual


def test_a_short_spike_is_no_onset() -> None:
    values = np.full(615, 0.10)
    values[570:572] = 1.0
    found = measured(values)
    assert found.onset_ns == 0
    assert found.unusual is False


def test_a_third_of_bad_calm_time_does_not_move_the_baseline() -> None:
    values = np.r_[np.full(400, 0.10), np.full(140, 0.9), np.full(60, 0.1), np.full(15, 0.95)]
    assert measured(values).baseline == pytest.approx(0.10)


def test_without_calm_time_there_is_no_baseline_but_a_value() -> None:
    found = measured(np.full(20, 0.9), onset_at=5)
    assert np.isnan(found.baseline)
    assert np.isnan(found.deviation)
    assert found.unusual is None
    assert found.now == pytest.approx(0.9)
    assert found.onset_ns == 0


def test_missing_samples_lower_the_coverage_and_are_never_zero() -> None:
    values = np.r_[np.full(600, 0.1), np.full(16, 0.9)]
    values[600::2] = np.nan
    found = measured(values)
    assert found.now == pytest.approx(0.9)
    assert 0.4 < found.coverage < 0.7
    nothing = measured(np.full(615, np.nan))
    assert np.isnan(nothing.now)
    assert np.isnan(nothing.peak)
    assert nothing.coverage == 0.0


def test_infinities_are_missing() -> None:
    values = np.r_[np.full(600, 0.1), np.full(15, np.inf)]
    assert np.isnan(measured(values).now)


def test_peak_and_low_are_of_the_incident_only() -> None:
    values = np.r_[np.full(300, 0.99), np.full(300, 0.1), [0.1, 0.5, 0.9, 0.2, 0.1]]
    found = measured(values)
    assert (found.peak, found.low, found.last) == (0.9, 0.1, 0.1)


@given(st.lists(st.one_of(st.floats(allow_nan=True, width=32), st.just(float("nan"))), min_size=1, max_size=80),
       st.integers(0, 80))
def test_any_samples_give_a_measure(values: list[float], onset: int) -> None:
    found = measured(np.array(values), onset_at=min(onset, len(values) - 1))
    assert 0.0 <= found.coverage <= 1.0


def test_no_frames_give_no_measures() -> None:
    incident = build.incident_of({"alerts": []}, build.ONSET_NS)
    window = Window((), np.empty(0, dtype=np.int64), np.empty((0, 0)))
    assert measure(window, Case(incident, build.ONSET_NS, "h")) == ()


def test_steady_growth_is_told_from_a_step() -> None:
    t_ns = build.ONSET_NS + np.arange(200) * NS
    share, slope = rising_share(t_ns, np.linspace(0, 1990, 200))
    assert share == 1.0
    assert slope == pytest.approx(10.0, rel=0.02)
    assert rising_share(t_ns, np.repeat([0.0, 1990.0], 100))[0] < 0.3
    assert np.isnan(rising_share(t_ns[:5], np.arange(5.0))[0])


@pytest.mark.parametrize(("value", "unit", "text"), [
    (0.914, "ratio", "91 %"), (0.042, "ratio", "4.2 %"), (1.0, "ratio", "100 %"), (0.0, "ratio", "0 %"),
    (12 * 2**30, "bytes", "12 GiB"), (1536.0, "bytes/s", "1.5 KiB/s"), (0.0123, "seconds", "12 ms"),
    (250e-6, "seconds", "250 µs"), (0.412, "seconds/s", "412 ms per second"), (1234.0, "1/s", "1,234/s"),
    (float("nan"), "1", "unknown"), (float("inf"), "cores", "unlimited"), (200.0, "seconds", "3 min 20 s"),
    (0.5, "cores", "0.5 cores"), (-2048.0, "bytes", "-2 KiB")])
def test_numbers_carry_their_unit(value: float, unit: str, text: str) -> None:
    assert humanise(value, unit) == text


@given(st.text(max_size=300))
def test_a_clean_name_is_one_bounded_printable_line(text: str) -> None:
    cleaned = clean(text)
    assert len(cleaned) <= 80
    assert all(c == " " or c.isprintable() for c in cleaned)


PARTS = {"B": 1.0, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30, "TiB": 2.0**40, "PiB": 2.0**50, "%": 0.01,
         "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "cores": 1.0, "core": 1.0, "W": 1.0}


@given(st.floats(1e-9, 1e15) | st.floats(-1e15, -1e-9),
       st.sampled_from(["ratio", "bytes", "seconds", "cores", "watts", "1"]))
def test_a_number_means_what_it_meant_when_a_person_reads_it(value: float, unit: str) -> None:
    told = humanise(value, unit)
    words = told.removeprefix("-").replace(",", "").split()
    pairs = zip(words[::2], words[1::2] or [""], strict=True)
    meant = sum(float(number) * PARTS.get(part, 1.0) for number, part in pairs)
    smallest = {"seconds": 1e-9, "ratio": 1e-5}.get(unit, 1e-3)  # of what is less than that, "0" is told
    assert meant == pytest.approx(abs(value), rel=0.06, abs=smallest)
    assert told.startswith("-") == (value < 0 and meant > 0) or meant == 0
    assert "1,024" not in told or unit in ("1", "watts", "cores", "seconds", "ratio")


@given(st.floats(allow_nan=True, allow_infinity=True), st.sampled_from(["ratio", "bytes", "seconds", "1/s", "odd"]))
def test_every_number_can_be_told(value: float, unit: str) -> None:
    assert humanise(value, unit)
