"""Incidents of recorded hosts are counted, sorted into facts and guesses, and judged; public sets work on a toy."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench import healthy
from bench.healthy_recorded import copied, judged_of
from etio.core.errors import Broken
from etio.core.event import HostEvent
from etio.core.frame import NS, Frame
from etio.core.series import Series
from etio.store import days
from etio.store.config import StoreConfig
from etio.store.store import open_store

pytestmark = pytest.mark.slow

BEGAN = days.start_of("20261120") + 3600 * NS
SERIES = tuple(Series(n, u) for n, u in (
    ("cpu_busy_ratio", "ratio"), ("cpu_runnable_per_core", "1"), ("pressure_cpu_some_ratio", "ratio"),
    ("network_backlog_drops_per_second", "1/s")))


def host():
    """15 minutes: all cores busy at 5 min, an OOM kill at 8 min, a burst of drops at 12 min; five minutes missing."""
    rng = np.random.default_rng(1)
    for t in range(900):
        busy, burst = 300 <= t < 320, 720 <= t < 735
        x = np.array([0.3, 0.5, 0.02, 2.0]) * rng.uniform(0.9, 1.1, 4)
        x = np.where([busy, busy, busy, False], [1.0, 4.5, 0.9, 0.0], x)
        x[3] = 900.0 if burst else x[3]
        gap = 300 if t >= 600 else 0
        yield Frame(BEGAN + (t + gap) * NS, SERIES, x.astype(np.float32).astype(np.float64))


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    folder = tmp_path_factory.mktemp("state")
    store = open_store(StoreConfig(directory=str(folder), batch_seconds=60, min_free_bytes=0, queue_frames=10**6))
    store.writer.put(HostEvent(BEGAN + 480 * NS + 5, "oom_kill", "pid=7", (("comm", "hog"),), "eBPF oom:mark_victim"))
    for frame in host():
        store.writer.put_frame(frame)
    store.close()
    return folder


def asked(state, tmp_path, *more):
    path = tmp_path / "out.json"
    assert healthy.main(["--store", str(state), "--json", str(path), *more]) == 0
    return json.loads(path.read_text())["recorded"]


def test_facts_and_guesses_are_told_apart(state, tmp_path, capsys):
    found = asked(state, tmp_path)
    kinds = {one["alerts"][0]["name"]: one["class"] for one in found["list"]}
    assert kinds.pop("SeriesAnomaly") == "statistical"
    assert kinds.pop("OomKill") == "fact"
    assert set(kinds.values()) == {"fact"}
    assert found["hours"] == pytest.approx(898 / 3600, abs=0.001), "the gap was not observed"
    assert sum(found["hours_by_load"].values()) == pytest.approx(15 / 60, abs=0.001)
    assert found["hours_by_load"]["busy"] == pytest.approx(15 / 60, abs=0.02)
    assert {load: (row["incidents"], row["false"]) for load, row in found["by_load"].items()} == {
        "quiet": (0, 0), "busy": (len(found["list"]), 1), "full": (0, 0)}
    assert found["by_load"]["busy"]["false_per_day"] == pytest.approx(96, rel=0.1)
    assert found["false"] == 1
    assert found["false_per_day"] == pytest.approx(86_400 / 898, rel=0.01)
    told = capsys.readouterr().out
    assert "2026-11-20 01:17:" in told
    assert "usually" in told
    assert "cpu_busy_ratio 3" in told


def test_a_person_has_the_last_word(state, tmp_path):
    verdicts = tmp_path / "judged"
    verdicts.write_text("# drills\n2026-11-20T01:17:10 true drops of the load test\n\n"
                        "2026-11-20T01:08:01 false it was planned\n")
    found = asked(state, tmp_path, "--judged", str(verdicts))
    assert (found["judged_true"], found["false"]) == (1, 1)
    false = next(one for one in found["list"] if "judged false" in one["verdict"])
    assert false["alerts"][0]["name"] == "OomKill"
    verdicts.write_text("2026-11-20T01:17:10 perhaps\n")
    with pytest.raises(Broken, match="judged:1"):
        judged_of(verdicts)


def test_a_part_of_the_time_may_be_asked_for(state, tmp_path):
    found = asked(state, tmp_path, "--since", "2026-11-20T01:07", "--until", "2026-11-20T01:09")
    assert [one["alerts"][0]["name"] for one in found["list"]] == ["OomKill"]
    assert found["frames"] == 121


def test_the_store_itself_is_not_touched_and_what_is_none_is_refused(state, tmp_path):
    before = {f.name: f.stat().st_mtime_ns for f in state.iterdir()}
    (tmp_path / "copy").mkdir()
    assert [f.name for f in copied(state, tmp_path / "copy").glob("*.duckdb")] == ["d20261120.duckdb"]
    assert {f.name: f.stat().st_mtime_ns for f in state.iterdir()} == before
    assert healthy.main(["--store", str(tmp_path)]) == 2
    for wrong in ([], ["--store", str(state), "--since", "yesterday"]):
        with pytest.raises(SystemExit):
            healthy.main(wrong)


def test_public_hosts_end_to_end_on_a_toy(tmp_path):
    """Two days of noise with one lasting jump of three metrics, a row in five minutes: strange, yet no incident."""
    folder, rng, rows = tmp_path / "anomaly" / "asd", np.random.default_rng(2), 2 * 288
    folder.mkdir(parents=True)
    x = rng.normal(0.3, 0.02, (rows + 10, 5))
    x[500:520, :3] += 0.6
    table = {"part": ["train"] * rows + ["test"] * 10, "t": [*range(rows), *range(10)], "label": [0] * (rows + 10)}
    pq.write_table(pa.table(table | {f"d{i + 1:02}": x[:, i].astype(np.float32) for i in range(5)}),
                   folder / "one.parquet")
    (folder / "events.json").write_text("[]")
    assert healthy.main(["--data", str(tmp_path), "--json", str(tmp_path / "out.json")]) == 0
    found = json.loads((tmp_path / "out.json").read_text())["public"]["asd"]
    assert (found["machines"], found["days"], found["incidents"]) == (1, 2.0, 0)
    assert found["host_anomalies_per_day"] >= 0.5
    assert found["series_incidents_per_day"] >= 1.0
