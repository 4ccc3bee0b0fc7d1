"""A latency that creeps up for an hour is told with its numbers; load, noise and jumps are not."""

import numpy as np
import pytest

from detectors.degradation import Config, Degradation
from etio.core.frame import NS, Frame
from etio.core.series import Series, labels

START = 1_790_000_000
LATENCY = Series("disk_read_latency_seconds", "seconds", "mean", labels(device="sda"))
LOAD = Series("disk_reads_per_second", "1/s", labels=labels(device="sda"))


def run(latency, load=lambda t: 100.0, seconds=9000, one=None, start=0):
    """(first moment of an alarm or None, its note)."""
    one, rng = one or Degradation(Config()), np.random.default_rng(1)
    for t in range(start, seconds, 5):
        values = np.array([latency(t, rng), load(t) * rng.normal(1, 0.1)])
        scores = one.step(Frame((START + t) * NS, (LATENCY, LOAD), values))
        if scores.values[0] >= 1:
            return t, scores.notes[0]
    return None, ""


def creeping(t, rng):
    return 0.010 * (1 + 0.4 * max(t - 3600, 0) / 3600) * rng.normal(1, 0.15)


def test_thirty_percent_over_an_hour_are_told():
    at, note = run(creeping)
    assert at is not None
    assert 5400 <= at <= 8400
    assert " ms to " in note
    assert "% more" in note


@pytest.mark.parametrize(("latency", "load"), [
    (lambda t, rng: 0.010 * rng.normal(1, 0.3), lambda t: 100.0),
    (lambda t, rng: 0.010 * np.exp(0.5 * rng.standard_t(3)), lambda t: 100.0),
    (creeping, lambda t: 100.0 * (1 + 0.8 * max(t - 3600, 0) / 3600)),
    (lambda t, rng: 0.0001 * (1 + t / 3600) * rng.normal(1, 0.1), lambda t: 100.0),
    (lambda t, rng: 0.010 * (1 + 0.5 * np.sin(t / 600)) * rng.normal(1, 0.1), lambda t: 100.0),
    (lambda t, rng: np.nan if t % 1200 > 300 else 0.010 * (1 + t / 3600), lambda t: 100.0),
], ids=["noise", "tails", "load", "tiny", "waves", "rare"])
def test_what_is_no_degradation_is_not_told(latency, load):
    assert run(latency, load, 15_000) == (None, "")


def test_a_restart_goes_on():
    one, other = Degradation(Config()), Degradation(Config())
    assert run(creeping, seconds=5000, one=one)[0] is None
    other.restore(one.snapshot(), ())
    at, _ = run(creeping, one=other, start=5000)
    assert at is not None
    assert at < 8500
