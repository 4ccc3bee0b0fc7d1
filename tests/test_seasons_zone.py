"""Hours of the day are those of the clock on the host's wall, over changes to summer time and back."""

import json
import zoneinfo
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from detectors.seasonal import Config, Seasonal
from detectors.seasonal_fit import Rollup, fit
from etio.core.errors import Broken, ConfigError
from etio.core.frame import NS, Frame
from etio.core.season import DAY, HOUR_NS, UTC, WEEK, Season, Zone
from etio.core.series import Series
from etio.daemon.config import from_table
from etio.daemon.season_worker import plain, season_of
from etio.daemon.timezone import host_zone, is_zone

PRESSURE = Series("pressure_io_some_ratio", "ratio")
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


def at(text, zone=BERLIN):
    """Nanoseconds of a local moment."""
    return int(datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()) * NS


def rollup(zone, place, start, days, busy):
    """Roll-ups of a host in that place, at work when busy(local hour, weekday)."""
    t_ns = start + np.arange(0, int(days * 86_400), 300, dtype=np.int64) * NS
    rng, local = np.random.default_rng(1), [datetime.fromtimestamp(t // NS, place) for t in t_ns.tolist()]
    mean = np.array([0.7 if busy(m.hour, m.weekday()) else 0.05 for m in local]) * rng.normal(1, 0.03, len(local))
    return Rollup(PRESSURE, t_ns, 0.8 * mean, mean, 1.2 * mean, zone)


@pytest.mark.parametrize(("start", "change", "offsets"), [
    ("2026-10-18T00:00", "2026-10-25", (7200, 3600)), ("2027-03-21T00:00", "2027-03-28", (3600, 7200))],
    ids=["autumn", "spring"])
def test_a_nightly_backup_keeps_its_hour_when_the_clock_is_put_back_or_forward(start, change, offsets):
    zone = host_zone(at(f"{change}T12:00"), "Europe/Berlin")
    assert zone.offset_s == offsets
    assert zone.since_ns[1] == at(f"{change}T01:00", zoneinfo.ZoneInfo("UTC"))
    season = fit(rollup(zone, BERLIN, at(start), 14, lambda hour, _: hour == 22))
    assert season is not None
    assert len(season.middle) == DAY
    assert season.zone == zone
    assert np.flatnonzero(season.low > 0.3).tolist() == [22]
    assert np.flatnonzero(season.high > 0.5).tolist() == [22]
    blurred = fit(rollup(UTC, BERLIN, at(start), 14, lambda hour, _: hour == 22))
    assert blurred is None or (blurred.high > 0.5).sum() > 1, "by UTC it is at two hours, one week each"
    one, year_day = Seasonal(Config(oldest_days=30)), change[:8]
    before = fit(rollup(zone, BERLIN, at(start), 6, lambda hour, _: hour == 22))
    one.expect([before])  # known before the change, believed after it
    for day in (int(change[8:]) - 1, int(change[8:]), int(change[8:]) + 1):
        for hour, wanted in ((21, True), (22, False), (23, True)):
            frame = Frame(at(f"{year_day}{day}T{hour}:30"), (PRESSURE,), np.array([0.7]))
            assert (one.step(frame).values[0] > 1) == wanted, f"{day}, {hour}:30 by the clock on the wall"


def test_the_week_begins_on_monday_where_the_host_is():
    """In Auckland Monday begins on Sunday noon of UTC."""
    place = zoneinfo.ZoneInfo("Pacific/Auckland")
    start = at("2026-06-01T00:00", place)
    zone = host_zone(start, "Pacific/Auckland")
    season = fit(rollup(zone, place, start, 21, lambda hour, day: day < 5 and 8 <= hour < 18))
    assert season is not None
    assert len(season.middle) == WEEK
    assert np.flatnonzero(season.low > 0.3).tolist() == [24 * day + hour for day in range(5) for hour in range(8, 18)]
    assert season.slot(at("2026-06-22T00:30", place)) == 0
    assert season.slot(at("2026-06-28T23:30", place)) == WEEK - 1


def test_offsets_of_part_hours_count_as_they_are():
    zone = host_zone(at("2026-06-01T00:00"), "Asia/Kathmandu")
    assert zone.offset_s == (5 * 3600 + 45 * 60,)
    place = zoneinfo.ZoneInfo("Asia/Kathmandu")
    season = fit(rollup(zone, place, at("2026-06-01T00:00", place), 5, lambda hour, _: hour == 2))
    assert season is not None
    assert np.flatnonzero(season.low > 0.3).tolist() == [2]


def test_a_change_of_half_an_hour_is_found_to_the_second():
    zone = host_zone(at("2026-10-04T12:00"), "Australia/Lord_Howe")
    assert zone.offset_s == (37_800, 39_600)
    assert zone.since_ns[1] == at("2026-10-03T15:30", zoneinfo.ZoneInfo("UTC"))


def test_the_zone_of_the_host_is_read_where_it_is_kept(tmp_path, monkeypatch):
    monkeypatch.delenv("TZ", raising=False)
    etc, data = tmp_path / "etc", tmp_path / "usr/share/zoneinfo/Europe"
    etc.mkdir()
    data.mkdir(parents=True)
    now = at("2026-07-01T00:00")
    assert host_zone(now, root=tmp_path) == UTC, "nothing there"
    source = next(Path(p) / "Europe/Berlin" for p in zoneinfo.TZPATH if (Path(p) / "Europe/Berlin").exists())
    (data / "Berlin").write_bytes(source.read_bytes())
    (etc / "localtime").symlink_to(data / "Berlin")
    found = host_zone(now, root=tmp_path)
    assert (found.name, found.offset_s) == ("Europe/Berlin", (7200,))
    (etc / "localtime").unlink()
    (etc / "localtime").write_bytes(source.read_bytes())
    assert host_zone(now, root=tmp_path).name == "local"
    (etc / "localtime").write_bytes(b"nonsense")
    assert host_zone(now, root=tmp_path) == UTC
    monkeypatch.setenv("TZ", ":America/New_York")
    assert host_zone(now, root=tmp_path).offset_s == (-14_400,)
    monkeypatch.setenv("TZ", "../etc/passwd")
    assert host_zone(now, root=tmp_path) == UTC


def test_seasons_of_another_zone_are_dropped():
    flat, one = np.ones(DAY, dtype=np.float32), Seasonal(Config())
    old = Season("a", flat, flat, flat, 0.9, 1, UTC)
    new = Season("b", flat, flat, flat, 0.9, 2, Zone("Europe/Oslo", (0,), (3600,)))
    one.expect([old])
    one.expect([new])
    assert one.season("a") is None
    assert one.season("b") is new


def test_the_zone_survives_a_restart_and_the_pipe_of_the_worker():
    zone = Zone("Europe/Oslo", (0, 100 * HOUR_NS), (3600, 7200))
    hours = np.arange(DAY, dtype=np.float32)
    season = Season(PRESSURE.key, hours, hours + 1, hours + 2, 0.9, 90 * HOUR_NS, zone)
    one, other = Seasonal(Config()), Seasonal(Config())
    one.expect([season])
    state = dict(one.snapshot())
    other.restore(state, (PRESSURE,))
    for t in (99, 100):
        frame = Frame(t * HOUR_NS + 1, (PRESSURE,), np.array([5.0]))
        assert other.step(frame).values[0] == one.step(frame).values[0]


    assert season_of(json.dumps(plain(season)).encode()).zone == zone
    del state["zone"]
    other.restore(state, (PRESSURE,))
    assert other.season(PRESSURE.key).zone == UTC, "a state of an earlier version"
    for bad in ({"name": "x", "since_ns": [0], "offset_s": ["a"]}, {"name": "x", "since_ns": [], "offset_s": []},
                {"name": "x", "since_ns": [5, 1], "offset_s": [0, 0]}):
        with pytest.raises(Broken):
            other.restore(state | {"zone": bad}, (PRESSURE,))


def test_a_zone_can_be_set_and_one_that_is_none_is_refused():
    assert from_table({"daemon": {"time_zone": "Asia/Tokyo"}}, "x").daemon.time_zone == "Asia/Tokyo"
    for bad in ("Mars/Olympus", "/etc/passwd", "../../etc/passwd"):
        assert not is_zone(bad)
        with pytest.raises(ConfigError, match="time_zone"):
            from_table({"daemon": {"time_zone": bad}}, "x")
