"""Time to full: told before it is full, with an interval that holds; and not told where nothing runs out."""

import numpy as np
import pytest
from scipy import stats

from detectors.sen import sen
from detectors.trends import Config, Trends
from etio.core.engine import Engine, Judge
from etio.core.event import FrameReady, Notify
from etio.core.frame import NS, Frame
from etio.core.policy import EngineConfig
from etio.core.series import Series, labels
from etio.core.words import duration

MB, GB = 2**20, 2**30
START = 1_790_000_000
DISK = Series("filesystem_available_bytes", "bytes", labels=labels(device="vda1", mount="/data", type="ext4"))
MEMORY = Series("memory_available_bytes", "bytes")


def watch(series, left, seconds, step=1):
    """(seconds until first told, its note, number of times it began to be told)."""
    one, first, told, before = Trends(Config()), None, 0, False
    for t in range(0, seconds, step):
        scores = one.step(Frame((START + t) * NS, (series,), np.array([left(t)])))
        now = bool(scores.values[0] >= 1)
        if now and first is None:
            first = t, scores.notes[0]
        told += now and not before
        before = now
    return first, told


@pytest.mark.parametrize(("megabytes", "pace", "latest"), [(80, 1.0, 50), (250, 1.5, 75), (20_000, 10.0, 900)])
def test_a_writer_at_constant_pace_is_told_long_before_the_disk_is_full(megabytes, pace, latest):
    found, _ = watch(DISK, lambda t: max(megabytes - pace * t, 0.0) * MB, int(1.1 * megabytes / pace))
    assert found is not None
    assert found[0] <= latest < 0.7 * megabytes / pace
    left = (megabytes - pace * found[0]) / pace
    assert f"nothing left in {duration(left).split()[0][:1]}" in found[1]


def test_the_interval_holds_the_truth():
    rng, inside, told = np.random.default_rng(3), 0, 0
    for _ in range(20):
        one = Trends(Config())
        for t in range(0, 1800, 5):
            room = (40 * GB - 15 * MB * t) + rng.normal(0, 400 * MB)
            one.step(Frame((START + t) * NS, (DISK,), np.array([room])))
        told_at = one._told
        level = int(np.nanargmax(told_at["score"][:, 0])) if np.nanmax(told_at["score"][:, 0]) >= 1 else None
        if level is not None:
            told += 1
            truth = (40 * GB - 15 * MB * t) / (15 * MB)
            inside += bool(told_at["low"][level, 0] - 60 <= truth <= told_at["high"][level, 0] + 60)
    assert told >= 10
    assert inside >= 0.7 * told


def test_a_disk_that_needs_most_of_a_day_is_told_hours_before():
    rng = np.random.default_rng(1)
    found, told = watch(DISK, lambda t: (200 - 200 * t / 72_000) * GB - rng.random() * 20 * MB, 72_000, step=10)
    assert found is not None
    assert told == 1
    assert found[0] < 30_000


@pytest.mark.parametrize(("period", "share"), [(120, 0.1), (600, 0.2), (600, 0.3), (3600, 0.3)])
def test_a_log_that_is_written_and_rotated_is_not_told(period, share):
    assert watch(DISK, lambda t: (1 - t % period / period * share) * 50 * GB, 8 * period, max(period // 300, 1)) == (
        None, 0)


def test_a_copy_that_ends_is_not_told():
    assert watch(DISK, lambda t: 50 * GB - min(max(t - 300, 0), 300) / 300 * 15 * GB, 2000) == (None, 0)


def test_a_leak_is_told_and_what_programs_load_is_not():
    rng = np.random.default_rng(2)
    found, _ = watch(MEMORY, lambda t: max(6 * GB - 2 * MB * t - rng.random() * 50 * MB, 0), 3000)
    assert found is not None
    assert found[0] < 1900
    assert watch(MEMORY, lambda t: 100 * GB - min(max(t - 300, 0), 240) / 240 * 60 * GB, 2400) == (None, 0)
    walk = np.cumsum(rng.normal(0, 1, 20_000))
    assert watch(MEMORY, lambda t: 5 * GB + walk[t] * 5 * MB, 20_000, 2) == (None, 0)


def test_a_share_in_use_counts_as_well():
    handles = Series("kernel_file_handles_used_ratio", "ratio")
    found, _ = watch(handles, lambda t: min(0.1 + t / 2000, 1.0), 1700)
    assert found is not None
    assert "% a minute" in found[1]


def test_a_restart_does_not_start_over():
    one, other = Trends(Config()), Trends(Config())
    room = lambda t: np.array([200.0 * MB - 1.0 * MB * t])  # noqa: E731
    for t in range(60):
        one.step(Frame((START + t) * NS, (DISK,), room(t)))
    other.restore(one.snapshot(), ())
    told = [other.step(Frame((START + t) * NS, (MEMORY, DISK), np.array([1e9, room(t)[0]]))).values[1]
            for t in range(75, 90)]
    assert np.nanmax(told) >= 1.0


def test_state_is_bounded():
    many = tuple(Series("filesystem_available_bytes", "bytes", labels=labels(mount=f"/m{i}")) for i in range(400))
    one = Trends(Config())
    assert len(one.step(Frame(NS, many, np.full(400, 1e9))).values) == 256
    assert one._rolled.columns.bytes_per_series + one._told.bytes_per_series < 1100


def test_the_alert_carries_time_and_interval():
    engine, notes = Engine(EngineConfig(), [Judge(Trends(Config()), "rule")]), []
    for t in range(120):
        frame = Frame((START + t) * NS, (DISK,), np.array([200.0 * MB - 1.0 * MB * t]))
        notes += [a for n in engine.step(FrameReady(frame)) if isinstance(n, Notify) for a in n.alerts]
    assert [a.name for a in notes] == ["FilesystemFillsSoon"]
    assert notes[0].severity == "warning"
    assert notes[0].summary.startswith("/data fills up: nothing left in ")
    assert " to " in notes[0].summary


@pytest.mark.parametrize("seed", range(5))
def test_the_slope_is_that_of_scipy(seed):
    rng = np.random.default_rng(seed)
    y = np.cumsum(rng.normal(0.1, 1.0, 36)) + rng.standard_t(2, 36)
    fit, theirs = sen(y[:, None]), stats.theilslopes(y, np.arange(36), 0.90)
    assert fit.slope[0] == pytest.approx(theirs.slope)
    assert fit.low[0] <= theirs.low_slope + 1e-9
    assert fit.high[0] >= theirs.high_slope - 1e-9


def test_independent_noise_gives_the_interval_of_scipy():
    y = np.array([0.0, 1.1, 1.9, 3.2, 3.9, 5.1, 5.8, 7.2, 7.9, 9.1])
    fit, theirs = sen(y[:, None]), stats.theilslopes(y, np.arange(10), 0.90)
    assert (fit.low[0], fit.high[0]) == pytest.approx((theirs.low_slope, theirs.high_slope))
