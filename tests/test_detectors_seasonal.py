"""What is usual at this hour: found where there is a season, from archive to band; silent where there is none."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest

from detectors.robust_z import Config as RobustConfig
from detectors.robust_z import RobustZ
from detectors.seasonal import Config, Seasonal
from detectors.seasonal_fit import Rollup, fit
from etio.core.engine import Engine, Judge
from etio.core.errors import Broken
from etio.core.event import FrameReady, Notify, SeasonsReady
from etio.core.frame import NS, Frame
from etio.core.policy import EngineConfig
from etio.core.season import DAY, WEEK, Season, slot
from etio.core.series import Series, labels
from etio.daemon.season_worker import plain, season_of
from etio.daemon.seasons import Seasons
from etio.store.config import StoreConfig
from etio.store.store import open_store

MIDNIGHT = 1_790_035_200
"""A Wednesday, 00:00 UTC."""
LATENCY = Series("disk_read_latency_seconds", "seconds", "mean", labels(device="sda"))
PRESSURE = Series("pressure_io_some_ratio", "ratio")


def rollup(value, days, series=PRESSURE, seed=1, start=MIDNIGHT):
    """Roll-ups of a series whose level at second t is value(t), with noise within each stretch."""
    t = start + np.arange(0, int(days * 86_400), 300)
    rng = np.random.default_rng(seed)
    mean = np.array([value(s) for s in t]) * (1 + 0.03 * rng.standard_normal(len(t)))
    return Rollup(series, t * NS, 0.8 * mean, mean, 1.2 * mean)


def backup(t):
    """Busy from 02:00 to 03:00 each day."""
    return 0.7 if 2 <= t // 3600 % 24 < 3 else 0.05


def office(t):
    """Busy from 08:00 to 18:00, Monday to Friday."""
    hour = slot(int(t) * NS, WEEK)
    return 0.6 if hour // 24 < 5 and 8 <= hour % 24 < 18 else 0.05


def test_a_nightly_backup_is_a_season_of_the_day():
    found = fit(rollup(backup, 5))
    assert found is not None
    assert len(found.middle) == DAY
    assert found.explained > 0.9
    assert found.low[2] < 0.7 < found.high[2]
    assert found.low[2] > 0.3, "a backup that does not run is seen"
    assert found.high[12] < 0.3, "the same load at noon is seen"


def test_office_hours_are_a_season_of_the_week():
    found = fit(rollup(office, 21))
    assert found is not None
    assert len(found.middle) == WEEK
    monday_noon, sunday_noon = 12, 6 * 24 + 12
    assert found.low[monday_noon] < 0.6 < found.high[monday_noon]
    assert found.high[sunday_noon] < 0.4


@pytest.mark.parametrize(("value", "days"), [
    (backup, 1.5),  # less than two periods
    (lambda t: 0.3, 10),  # only noise
    (lambda t: 0.0, 10),  # nothing ever
    (lambda t: 0.05 + t % 1e6 / 1e6, 8),  # a drift
    (lambda t: 0.7 if 2 <= t // 3600 % 31 < 3 else 0.05, 10),  # each 31 hours
    (lambda t: 0.05 + 0.5 * float(np.random.default_rng(int(t) // 7200).random()), 10),  # busy at any time
], ids=["short", "noise", "zero", "drift", "31h", "random"])
def test_what_is_no_season_is_none(value, days):
    assert fit(rollup(value, days)) is None


def test_two_days_are_enough_and_gaps_do_not_hurt():
    assert fit(rollup(backup, 2.2)) is not None
    one = rollup(backup, 6)
    holes = np.random.default_rng(2).random(len(one.t_ns)) < 0.2
    for part in (one.low, one.mean, one.high):
        part[holes] = np.nan
        part[300:330] = np.nan
    found = fit(one)
    assert found is not None
    assert found.low[2] > 0.3


def test_a_level_that_has_drifted_counts_as_it_is_now():
    found = fit(rollup(lambda t: backup(t) + (t - MIDNIGHT) / 86_400 * 0.02, 10))
    assert found is not None
    assert found.middle[12] == pytest.approx(0.05 + 0.19, abs=0.04)


def nightly(engine, day, value):
    """Notices of two hours around the backup of that day; the level at second t of the day is value(t)."""
    rng, told = np.random.default_rng(day), []
    for t in range(int(0.8 * 3600), int(2.6 * 3600)):
        moment = (MIDNIGHT + day * 86_400 + t) * NS
        frame = Frame(moment, (PRESSURE,), np.array([min(value(t) * rng.normal(1, 0.03), 1.0)]))
        told += [a.name for n in engine.step(FrameReady(frame)) if isinstance(n, Notify) for a in n.alerts]
    return told


def busy_night(t):
    return 0.9 if t >= 7200 else 0.05


@pytest.mark.slow
def test_an_excursion_that_is_normal_for_the_hour_is_no_anomaly():
    season = fit(rollup(lambda t: 0.9 if 2 <= t // 3600 % 24 < 3 else 0.05, 5))
    assert season is not None
    knowing, naive = (Engine(EngineConfig(), [Judge(RobustZ(RobustConfig()), "series"),
                                              Judge(Seasonal(Config()), "series")]) for _ in range(2))
    knowing.step(SeasonsReady(1, (season,)))
    assert "SeriesAnomaly" in nightly(naive, 5, busy_night)
    assert nightly(knowing, 5, busy_night) == []
    assert knowing.band is not None
    assert knowing.band.low[0] < 0.9 <= knowing.band.high[0]


def test_a_peak_that_does_not_come_and_one_at_noon_are_seen():
    season, one = fit(rollup(backup, 5)), Seasonal(Config())
    assert season is not None
    one.expect([season])

    def score(hour, value):
        moment = (MIDNIGHT + 5 * 86_400 + hour * 3600 + 1800) * NS
        return float(one.step(Frame(moment, (PRESSURE,), np.array([value]))).values[0])

    assert score(2, 0.7) < 1 < score(12, 0.7)
    assert score(12, 0.05) < 1 < score(2, 0.05)
    assert np.isnan(score(2, np.nan))


def test_a_season_that_is_not_renewed_is_dropped():
    one = Seasonal(Config(oldest_days=2))
    flat = np.ones(DAY, dtype=np.float32)
    one.expect([Season(PRESSURE.key, flat, flat * 2, flat * 3, 0.9, MIDNIGHT * NS)])
    for days, known in ((1, True), (3, False)):
        scores = one.step(Frame((MIDNIGHT + days * 86_400) * NS, (PRESSURE,), np.array([2.0])))
        assert np.isfinite(scores.values[0]) == known
    other = Seasonal(Config())
    other.restore(one.snapshot(), (LATENCY, PRESSURE))
    assert np.isfinite(other.step(Frame((MIDNIGHT + 9) * NS, (LATENCY, PRESSURE), np.array([2.0, 2.0]))).values[1])


def test_lines_of_the_worker():
    season = fit(rollup(backup, 4))
    assert season is not None

    back = season_of(json.dumps(plain(season)).encode())
    assert back is not None
    np.testing.assert_array_equal(back.high, season.high)
    assert season_of(b"null") is None
    short = b'{"ranges": [[1], [2], [3]], "key": "x", "explained": 1, "made_ns": 2}'
    for bad in (b"", b"{}", b"[1]", short, b"nonsense"):
        with pytest.raises(Broken):
            season_of(bad)


@pytest.mark.slow
def test_the_daemon_reads_the_archive_and_a_child_fits(tmp_path):
    store = open_store(StoreConfig(directory=str(tmp_path), min_free_bytes=0, compact=False, queue_frames=10_000))
    try:
        rng = np.random.default_rng(1)
        for t in range(MIDNIGHT, MIDNIGHT + int(2.5 * 86_400), 150):
            values = np.array([backup(t), 0.01]) * rng.normal(1, 0.03)
            store.writer.put_frame(Frame(t * NS, (PRESSURE, LATENCY), values))
        assert store.writer.flush(60)
        posted = []
        seasons = Seasons(store.archive, posted.append, 24.0, pause_s=0.0)
        found = seasons.look((MIDNIGHT + int(2.5 * 86_400)) * NS)
        assert [one.key for one in found] == [PRESSURE.key]
        assert found[0].low[2] > 0.3
        assert seasons.pids == ()
    finally:
        store.close()


def test_it_starts_and_stops_at_once(tmp_path):
    store = open_store(StoreConfig(directory=str(tmp_path), min_free_bytes=0, compact=False))
    seasons = Seasons(store.archive, lambda _: None, 24.0)
    seasons.start()
    began = time.monotonic()
    seasons.stop()
    assert time.monotonic() - began < 30  # it waits for a day otherwise
    store.close()


@pytest.mark.slow
def test_statsmodels_stays_out_of_the_daemon():
    code = "import sys, etio.daemon.app, detectors; detectors.discover(); print('statsmodels' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
