"""A curve whose series has a season carries the range of the hour of each of its points."""

import httpx
import numpy as np

from detectors.seasonal import Config, Seasonal
from etio.core.engine import Engine, Judge
from etio.core.event import SeasonsReady
from etio.core.policy import EngineConfig
from etio.core.season import Season, slot
from etio.daemon.live import LiveView
from tests.sample_report import NS, SampleLive, make_archive, serving

NOW = 1_795_248_000 * NS
KEY = 'cgroup_cpu_throttled_ratio{cgroup="/system.slice/billing-api.service"}'
HOURS = np.arange(24, dtype=np.float32)
SEASON = Season(KEY, HOURS, HOURS + 1, HOURS + 2, 0.9, NOW)


class Almanac(SampleLive):
    def season(self, key):
        return SEASON if key == KEY else None


def test_each_point_has_the_range_of_its_hour():
    with serving(make_archive(Almanac(now_ns=NOW))) as server, httpx.Client(
            base_url=server.address, trust_env=False) as client:
        query = {"key": [KEY, "cpu_busy_ratio"], "start": "-10m"}
        one, other = client.get("/api/v1/series/data", params=query).json()["curves"]
    assert other["season"] is None
    wanted = [slot(t, 24) for t in one["t_ns"]]
    assert one["season"]["low"] == wanted
    assert one["season"]["high"] == [hour + 2 for hour in wanted]


def test_a_daemon_without_seasons_says_none():
    with serving(make_archive(SampleLive(now_ns=NOW))) as server, httpx.Client(
            base_url=server.address, trust_env=False) as client:
        (one,) = client.get("/api/v1/series/data", params={"key": KEY}).json()["curves"]
    assert one["season"] is None


def test_the_live_view_asks_the_engine():
    engine, live = Engine(EngineConfig(), [Judge(Seasonal(Config()), "series")]), LiveView(10, lambda: None)
    assert live.season(KEY) is None
    live.season_of = engine.season
    assert live.season(KEY) is None
    engine.step(SeasonsReady(NOW, (SEASON,)))
    assert live.season(KEY) is SEASON
    assert live.season("x") is None
