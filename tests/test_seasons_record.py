"""Seasons are kept beside the day files, and a replay knows them from the moment they were known."""

import numpy as np
import pytest

from detectors.robust_z import Config as RobustConfig
from detectors.robust_z import RobustZ
from detectors.seasonal import Config, Seasonal
from etio.core.engine import Engine, Judge
from etio.core.errors import Broken
from etio.core.event import HostEvent, SeasonsReady
from etio.core.frame import NS, Frame
from etio.core.policy import EngineConfig
from etio.core.season import DAY, Season, Zone
from etio.core.series import Series
from etio.daemon.replay import recorded, replay
from etio.daemon.season_record import FOLDER, KEPT, keep, kept, with_seasons
from etio.daemon.seasons import Seasons
from etio.store import days
from etio.store.config import StoreConfig
from etio.store.store import open_store

MIDNIGHT = days.start_of("20261120")
PRESSURE = Series("pressure_io_some_ratio", "ratio")


def season(high=1.0):
    edges = [np.full(DAY, x, dtype=np.float32) for x in (0.0, 0.05, high)]
    return Season(PRESSURE.key, *edges, 0.9, MIDNIGHT, Zone("Europe/Oslo", (0,), (3600,)))


def test_they_come_back_in_order_and_old_files_go(tmp_path):
    assert kept(tmp_path / FOLDER) == []
    for t in range(KEPT + 5):
        keep(tmp_path / FOLDER, SeasonsReady(900 + t * NS, (season(),)))
    found = kept(tmp_path / FOLDER)
    assert [one.t_ns for one in found] == [900 + t * NS for t in range(5, KEPT + 5)]
    assert found[0].seasons[0].zone == season().zone
    np.testing.assert_array_equal(found[0].seasons[0].high, season().high)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x1f\x8b\x08\x00broken"])
def test_a_damaged_file_is_broken(tmp_path, content):
    (tmp_path / "5.json.gz").write_bytes(content)
    (tmp_path / "notes.txt").write_text("not ours")
    with pytest.raises(Broken, match=r"5\.json\.gz"):
        kept(tmp_path)


def test_they_fall_in_before_what_is_not_earlier():
    items = [HostEvent(t, "x", "host") for t in (10, 20, 30)]
    ready = [SeasonsReady(t, ()) for t in (25, 5, 20, 99)]
    assert [one.t_ns for one in with_seasons(items, ready)] == [5, 10, 20, 20, 25, 30]


def test_a_replay_knows_the_seasons_of_its_time(tmp_path):
    """A night's backup: an anomaly for who knows nothing, none for who knows the hour."""
    store = open_store(StoreConfig(directory=str(tmp_path), batch_seconds=60, min_free_bytes=0, queue_frames=10**6))
    rng = np.random.default_rng(1)
    for t in range(1200):
        value = np.array([0.05 * rng.normal(1, 0.03) if t < 1000 else 0.9 * rng.normal(1, 0.02)])
        store.writer.put_frame(Frame(MIDNIGHT + t * NS, (PRESSURE,), value.astype(np.float32).astype(np.float64)))
    store.close()

    def alerts():
        engine = Engine(EngineConfig(), [Judge(RobustZ(RobustConfig()), "series"),
                                         Judge(Seasonal(Config()), "series")])
        return {one.alert.name for one in replay(engine, recorded(tmp_path))}

    assert alerts() == {"SeriesAnomaly"}
    keep(tmp_path / FOLDER, SeasonsReady(MIDNIGHT + 500 * NS, (season(),)))
    assert alerts() == set()


def test_the_daemon_keeps_what_it_posts_and_a_full_disk_stops_nothing(tmp_path):
    posted = []
    seasons = Seasons(None, posted.append, 24.0, folder=tmp_path / FOLDER)
    seasons._tell(SeasonsReady(7, (season(),)))
    assert [one.t_ns for one in kept(tmp_path / FOLDER)] == [7]
    (tmp_path / "file").write_text("")
    Seasons(None, posted.append, 24.0, folder=tmp_path / "file" / "below")._tell(SeasonsReady(8, ()))
    assert [one.t_ns for one in posted] == [7, 8]
