"""What detectors have learned comes back after a restart; a damaged snapshot is set aside with one line."""

import logging

import numpy as np
import pytest

import detectors
from etio.core.frame import NS, Frame
from etio.core.series import Series, labels
from etio.daemon.detector_state import EVERY_S, NAME, DetectorState
from etio.store.config import StoreConfig
from etio.store.store import open_store

START = 1_790_000_000 * NS
SERIES = tuple(Series("cpu_core_busy_ratio", "ratio", "gauge", labels(cpu=str(i))) for i in range(8))


def fresh():
    return [spec.build(spec.config()) for spec in detectors.discover().values()]


def frames(count, start=START):
    rng = np.random.default_rng(5)
    return [Frame(start + i * NS, SERIES, rng.normal(0.3, 0.02, len(SERIES))) for i in range(count)]


def learned(count=120):
    judges = fresh()
    for frame in frames(count):
        for judge in judges:
            judge.step(frame)
    return judges


def known(judges, frame):
    return next(np.isfinite(j.step(frame).values).mean() for j in judges if j.name == "robust_z")


@pytest.fixture
def store(tmp_path):
    one = open_store(StoreConfig(directory=str(tmp_path), min_free_bytes=0, compact=False))
    yield one
    one.close()


def saved(store, end=START + 120 * NS):
    DetectorState(store, learned()).close(end)
    return store.database.directory / "state" / NAME


def test_a_restart_goes_on_where_the_last_run_ended(store):
    saved(store)
    before, after = learned(), fresh()
    assert DetectorState(store, after).restore(START + 125 * NS)
    frame = Frame(START + 126 * NS, SERIES, np.full(8, 0.95))
    for old, new in zip(before, after, strict=True):
        expected, got = old.step(frame), new.step(frame)
        np.testing.assert_allclose(got.values[: len(expected.values)], expected.values, err_msg=old.name)
    assert known(after, Frame(START + 127 * NS, SERIES, np.full(8, 0.3))) == 1.0


def test_without_a_snapshot_everything_is_learned_anew(store, caplog):
    judges = fresh()
    assert not DetectorState(store, judges).restore(START)
    assert known(judges, frames(1)[0]) == 0.0
    assert not caplog.records


@pytest.mark.parametrize("damage", [
    b"", b"nonsense", b"PK\x03\x04 but no archive", "truncated", "flipped", "no table",
])
def test_a_damaged_snapshot_is_set_aside_with_one_line(store, caplog, damage):
    path = saved(store)
    good = path.read_bytes()
    bad = {"truncated": good[: len(good) // 2], "flipped": bytes(b ^ 0x55 if i % 701 == 0 else b
                                                                  for i, b in enumerate(good))}
    if damage == "no table":
        from detectors.state import to_bytes
        bad["no table"] = to_bytes({"detectors": [1, 2], "t_ns": START})
    path.write_bytes(bad.get(damage, damage) if isinstance(damage, str) else damage)
    judges = fresh()
    with caplog.at_level(logging.INFO):
        assert not DetectorState(store, judges).restore(START + 125 * NS)
    assert len(caplog.records) == 1
    assert "set aside" in caplog.text
    assert not path.exists()
    assert path.with_name(f"{NAME}.damaged").exists()
    assert known(judges, frames(1)[0]) == 0.0


@pytest.mark.parametrize("away_s", [-3600, 2 * 86400])
def test_a_snapshot_of_another_time_is_not_believed(store, caplog, away_s):
    saved(store)
    judges = fresh()
    with caplog.at_level(logging.INFO):
        assert not DetectorState(store, judges).restore(START + (120 + away_s) * NS)
    assert len(caplog.records) == 1
    assert known(judges, frames(1)[0]) == 0.0


def test_one_detector_that_refuses_does_not_stop_the_others(store, caplog):
    from detectors.state import to_bytes
    judges = learned()
    parts = {j.name: j.snapshot() for j in judges}
    parts["robust_z"] = {"keys": "none"}
    store.save_state(NAME, to_bytes({"t_ns": START + 120 * NS, "detectors": parts}))
    after = fresh()
    assert DetectorState(store, after).restore(START + 125 * NS)
    assert [r.message for r in caplog.records if "robust_z" in r.message]
    assert len(caplog.records) == 1
    assert known(after, frames(1, START + 126 * NS)[0]) == 0.0


def test_snapshots_are_taken_now_and_then_by_a_thread_of_their_own(store):
    state = DetectorState(store, learned())
    state.restore(START)
    state.after_frame(START + NS)
    assert store.load_state(NAME) is None
    state.after_frame(START + int(EVERY_S * NS))
    state._thread.join()
    first = store.load_state(NAME)
    assert first
    state.after_frame(START + int((EVERY_S + 1) * NS))
    assert store.load_state(NAME) == first
    state.close(START + int((EVERY_S + 2) * NS))
    assert store.load_state(NAME) != first


def test_a_full_disk_costs_the_snapshot_and_one_line(store, caplog):
    path = saved(store)
    kept = path.read_bytes()
    path.with_name(f"{NAME}.part").mkdir()  # writing the new snapshot now fails
    DetectorState(store, learned(60)).close(START + 300 * NS)
    assert len(caplog.records) == 1
    assert "could not be saved" in caplog.text
    assert path.read_bytes() == kept
