"""The benchmark's scorer, against recorded figures of an independent one, and the benchmark end to end on a toy set."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench import scoring
from bench.detect_data import load
from bench.detect_methods import METHODS

ROOT = Path(__file__).parent.parent


def case(seed):
    """Labels and scores rounded so that there are ties."""
    rng, label = np.random.default_rng(seed), np.zeros(1500, dtype=int)
    for start in rng.integers(0, 1460, 5):
        label[start:start + int(rng.integers(1, 40))] = 1
    return label, np.round(rng.normal(size=1500) + 1.5 * label, 2)


RECORDED = [  # seed, VUS-PR at buffer 60, events, (found, false) at minutes and at five minutes, delays, pooled F1
    (0, 0.332141031, 5, (4, 19), (4, 23), 7, 0.266666667),
    (1, 0.392624477, 5, (5, 28), (5, 32), 10, 0.25),
    (2, 0.411290532, 5, (5, 25), (5, 27), 2, 0.277777778),
    (3, 0.522596617, 4, (4, 20), (4, 24), 8, 0.266666667),
]


@pytest.mark.parametrize("recorded", RECORDED)
def test_scores_equal_those_of_the_independent_scorer(recorded):
    seed, vus, events, minute, five, delays, f1 = recorded
    label, score = case(seed)
    assert scoring.vus_pr(label, score, 60) == pytest.approx(vus, abs=1e-6)
    got = [scoring.outcome(label, score > 2, c) for c in (scoring.MINUTE, scoring.FIVE_MINUTES)]
    assert [(o.events, len(o.delays), o.false_alarms) for o in got] == [(events, *minute), (events, *five)]
    assert sum(got[0].delays) == delays
    assert scoring.pooled(got).f1 == pytest.approx(f1, abs=1e-6)


@pytest.mark.skipif("ETIO_DATA" not in os.environ, reason="ETIO_DATA: folder of the public data with its evalkit.py")
def test_scores_equal_those_of_the_scorer_beside_the_data():
    path = Path(os.environ["ETIO_DATA"]) / "evalkit.py"
    spec = importlib.util.spec_from_file_location("evalkit", path)
    kit = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(kit)
    for seed in range(20):
        label, score = case(seed)
        assert scoring.vus_pr(label, score, 10 * seed) == pytest.approx(kit.vus_pr(label, score, 10 * seed), abs=1e-6)
        wave = np.sin(np.arange(1500) / (2.0 + seed)) + 0.1 * score
        assert scoring.period(wave) == kit.find_period(wave)
        theirs, ours = kit.event_metrics(label, score > 2), scoring.outcome(label, score > 2, scoring.MINUTE)
        assert (theirs["FA"], tuple(theirs["delays"])) == (ours.false_alarms, ours.delays)


def test_an_alarm_that_never_ends_is_told_every_hour():
    told = scoring.alarms(np.ones(150, dtype=bool), scoring.MINUTE)
    assert told.tolist() == [[0, 59], [60, 119], [120, 149]]


def test_an_alarm_just_after_the_end_is_late_and_not_false():
    label = np.zeros(100, dtype=int)
    label[20:30] = 1
    mask = np.zeros(100, dtype=bool)
    mask[33] = True
    assert scoring.outcome(label, mask, scoring.MINUTE).delays == (13,)
    mask[60] = True
    assert scoring.outcome(label, mask, scoring.MINUTE).false_alarms == 1


def test_perfect_scores_are_perfect_and_hit_rates_count_places():
    label, _ = case(0)
    assert scoring.vus_pr(label, label.astype(float), 0) == pytest.approx(1.0)
    carriers = np.tile([0.1, 0.9, 0.5, 0.0], (10, 1))
    assert scoring.hit_rates(carriers, [(2, 5, (1, 3)), (0, 9, (1, 2))]) == [(0.5, 0.5), (1.0, 1.0)]


def test_a_machine_without_events_has_no_volume():
    assert np.isnan(scoring.vus_pr(np.zeros(50, dtype=int), np.arange(50.0), 10))
    assert scoring.outcome(np.zeros(50, dtype=int), np.zeros(50, dtype=bool), scoring.MINUTE).events == 0


def test_period_of_a_wave():
    assert scoring.period(np.sin(2 * np.pi * np.arange(2000) / 48)) == pytest.approx(48, abs=1)
    assert scoring.period(np.zeros(100)) == 125


def test_bootstrap_is_paired():
    rng = np.random.default_rng(1)
    one = [scoring.Outcome(10, int(rng.integers(1, 5)), 10.0, (1,) * int(rng.integers(3, 9))) for _ in range(12)]
    assert scoring.bootstrap(one, one) == (0.0, 0.0)
    worse = [scoring.Outcome(o.events, o.false_alarms + 2, o.days, o.delays[1:]) for o in one]
    low, high = scoring.bootstrap(one, worse)
    assert 0 < low < high


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """Two machines at five minutes, 6 metrics, 12 days; three faults of two metrics in the test part of each."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    root, events = tmp_path_factory.mktemp("data"), []
    folder = root / "anomaly" / "asd"
    folder.mkdir(parents=True)
    for number in range(2):
        rng, n, train = np.random.default_rng(number), 3456, 1728
        x, label = rng.normal(0.4, 0.03, (n, 6)), np.zeros(n, dtype=np.int8)
        for start in (400, 900, 1400):
            x[train + start:train + start + 12, [1, 4]] += 0.5
            label[train + start:train + start + 12] = 1
            events.append({"machine": f"m{number}", "start": start, "end": start + 12, "dims": ["d02", "d05"]})
        part = ["train"] * train + ["test"] * (n - train)
        columns = {f"d{i + 1:02}": x[:, i].astype(np.float32) for i in range(6)}
        parquet.write_table(arrow.table({"part": part, "t": np.r_[np.arange(train), np.arange(n - train)],
                                         "label": label, **columns}), folder / f"m{number}.parquet")
    (folder / "events.json").write_text(json.dumps(events))
    return root


@pytest.mark.slow
def test_benchmark_end_to_end(toy, tmp_path):
    import pyarrow.parquet

    command = [sys.executable, "-m", "bench.detect", "--data", str(toy), "--json", "out.json", "--dump", "dump",
               "--methods", "joint,k_means"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "ETIO_CALLER": str(tmp_path)}, capture_output=True,
                          text=True, check=True)
    assert "asd  joint" in done.stdout
    found = json.loads((tmp_path / "out.json").read_text())
    assert set(found["asd"]) >= {"event_f1_fixed", "false_alarms_per_day_fixed", "event_f1_adaptive",
                                 "false_alarms_per_day_adaptive", "vus_pr", "hit_100", "hit_150", "delay_minutes"}
    assert found["asd"]["event_f1_adaptive"] > 0.9
    assert found["asd"]["hit_100"] == 1.0
    table = pyarrow.parquet.read_table(tmp_path / "dump" / "m0.parquet")
    assert table.schema.names == ["t", "score", "alarm", "alarm_fixed", *(f"s_d{i:02}" for i in range(1, 7))]
    assert table.num_rows == 1728


@pytest.mark.slow
@pytest.mark.parametrize("method", ["joint", "robust_z", "half_space"])
def test_methods_are_reproducible_and_never_see_labels(toy, method):
    dataset = load(toy)[0]
    once, again = METHODS[method](dataset), METHODS[method](dataset)
    for a, b in zip(once, again, strict=True):
        assert np.array_equal(a.alarm, b.alarm, equal_nan=True)
        assert len(a.alarm) == len(dataset.machines[0].x)
        assert np.isfinite(a.ranking).all()


def test_a_folder_without_data_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="smd"):
        load(tmp_path)
