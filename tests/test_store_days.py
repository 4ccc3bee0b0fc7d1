"""Days: change, retention, compaction, roll-ups, readers beside the writer, the queue's limit."""

import dataclasses
import threading
import time

import numpy as np
import pytest

from etio.core.alert import Alert, Incident
from etio.core.event import HostEvent
from etio.core.frame import Frame
from etio.core.series import Series, labels
from etio.store import days
from etio.store.compact import compact
from etio.store.config import StoreConfig
from etio.store.days import DayFile, expired
from etio.store.outbox import OutboxItem
from etio.store.store import open_store
from tests.store_rig import config, wait_until, write

NS = 1_000_000_000
DAY = "20261120"
MIDNIGHT = days.start_of(DAY)
SERIES = tuple(Series("disk_busy_ratio", "ratio", "gauge", labels(device=f"sd{i}")) for i in range(20))


def frames(start_ns, count, step_s=1, seed=1):
    rng = np.random.default_rng(seed)
    values = rng.normal(50, 10, (count, len(SERIES))).astype(np.float32).astype(np.float64)
    values[rng.random(values.shape) < 0.05] = np.nan
    return [Frame(start_ns + i * step_s * NS, SERIES, row) for i, row in enumerate(values)]


def names(store):
    return [f.name for f in days.listing(store.database.directory)]


def values(some):
    return np.array([f.values for f in some])


def test_a_batch_over_midnight_goes_into_two_files_and_reads_as_one(tmp_path):
    store = open_store(config(tmp_path))
    some = frames(MIDNIGHT - 30 * NS, 60)
    write(store, some)
    assert names(store) == ["d20261119", "r20261119", "d20261120", "r20261120"]
    window = store.archive.window(MIDNIGHT - 10 * NS, MIDNIGHT + 9 * NS)
    np.testing.assert_array_equal(window.values, values(some[20:40]))
    curve = store.archive.curve(SERIES[3].key, some[0].t_ns, some[-1].t_ns)
    np.testing.assert_array_equal(curve.mean, values(some)[:, 3])
    coarse = store.archive.curve(SERIES[3].key, some[0].t_ns, some[-1].t_ns, points=6)
    np.testing.assert_allclose(coarse.high, np.nanmax(values(some)[:, 3].reshape(6, 10), axis=1))
    np.testing.assert_allclose(coarse.mean, np.nanmean(values(some)[:, 3].reshape(6, 10), axis=1), rtol=1e-6)
    store.close()


def test_a_clock_that_goes_back_over_midnight_loses_nothing(tmp_path):
    store = open_store(config(tmp_path))
    late, early, later = frames(MIDNIGHT + NS, 5), frames(MIDNIGHT - 60 * NS, 5, seed=2), frames(MIDNIGHT + 9 * NS, 5)
    write(store, late + early + later)
    window = store.archive.window(0, 2**62)
    np.testing.assert_array_equal(window.values, values(early + late + later))
    store.close()


def test_retention_by_age_and_size_is_oldest_first():
    files = [DayFile(f"{kind}202611{day:02}", 100) for day in range(10, 21) for kind in "dr"]
    base = StoreConfig(raw_days=3, retention_days=8, max_bytes=10**9)
    gone = {f.name for f in expired(files, "20261120", base)}
    assert gone == {f"{k}202611{d:02}" for d in (10, 11, 12) for k in "dr"} | {f"d202611{d}" for d in range(13, 18)}
    tight = StoreConfig(raw_days=30, retention_days=30, max_bytes=450)
    kept = [f.name for f in files if f not in expired(files, "20261120", tight)]
    assert kept == ["d20261119", "r20261119", "d20261120", "r20261120"]
    hopeless = StoreConfig(raw_days=30, retention_days=30, max_bytes=1)
    assert [f.name for f in files if f not in expired(files, "20261120", hopeless)] == ["d20261120", "r20261120"]


def test_retention_removes_whole_days_and_what_belongs_to_them(tmp_path):
    store = open_store(config(tmp_path, raw_days=2, retention_days=3))
    old = Alert("01", "MemoryLow", "warning", "resolved", (), "old", "", 1.0, "", 1.0, "rule", MIDNIGHT, MIDNIGHT)
    store.writer.put(old)
    store.writer.put(Incident("2026-11-20-0001", MIDNIGHT, (old,), MIDNIGHT + NS))
    store.writer.put(HostEvent(MIDNIGHT, "oom_kill", "pid=1"))
    for n in range(4):
        some = frames(MIDNIGHT + n * days.DAY_NS, 20, step_s=60)
        write(store, some[:5])
        write(store, some[5:])
    wait_until(lambda: names(store) == ["r20261121", "d20261122", "r20261122", "d20261123", "r20261123"])
    wait_until(lambda: not (store.archive.alerts() or store.archive.incidents() or store.archive.events(0, 2**62)))
    assert len(store.archive.series()) == len(SERIES)
    window = store.archive.window(MIDNIGHT + days.DAY_NS, MIDNIGHT + 2 * days.DAY_NS - 1)
    assert len(window.t_ns) == 20  # from the 10 s roll-ups
    store.close()


def test_a_leaping_clock_removes_nothing_at_once(tmp_path):
    store = open_store(config(tmp_path, raw_days=1, retention_days=1))
    write(store, frames(MIDNIGHT, 10))
    write(store, frames(MIDNIGHT + 3000 * days.DAY_NS, 10))
    write(store, frames(MIDNIGHT + 20 * NS, 10))
    assert "d20261120" in names(store)
    store.close()


@pytest.mark.slow
def test_compaction_keeps_every_sample_and_shrinks(tmp_path):
    store = open_store(config(tmp_path, compact=True))
    series = tuple(Series("cpu_core_busy_ratio", "ratio", "gauge", labels(cpu=str(i))) for i in range(300))
    slow = np.round(np.random.default_rng(5).normal(50, 10, 300)) + np.round(np.sin(np.arange(3000) / 60))[:, None]
    some = [Frame(MIDNIGHT + i * NS, series, row) for i, row in enumerate(slow)]
    some[7].values[:50] = np.nan
    for start in range(0, 3000, 100):
        write(store, some[start : start + 100])
    before = store.archive.window(0, 2**62)
    write(store, frames(MIDNIGHT + days.DAY_NS, 3))
    size = days.path_of(tmp_path, f"d{DAY}").stat().st_size

    def is_sorted():
        store.writer.flush()
        with store.database.reading([f"d{DAY}"]) as (cursor, _):
            return bool(cursor.execute(f"SELECT 1 FROM d{DAY}.meta WHERE key = 'sorted'").fetchall())

    wait_until(is_sorted)
    after = store.archive.window(0, MIDNIGHT + days.DAY_NS - 1)
    np.testing.assert_array_equal(after.values, before.values)
    np.testing.assert_array_equal(after.t_ns, before.t_ns)
    assert days.path_of(tmp_path, f"d{DAY}").stat().st_size < size
    assert not list(tmp_path.glob("*.new*"))
    with store.database.reading([f"d{DAY}"]) as (cursor, _):
        ids = [row[0] for row in cursor.execute(f"SELECT series FROM d{DAY}.samples").fetchall()]
    assert ids == sorted(ids)
    store.close()


@pytest.mark.parametrize("closed", [False, True])
def test_roll_ups_say_the_same_as_the_samples(tmp_path, closed):
    store = open_store(config(tmp_path, window_cells=2000))
    some = frames(MIDNIGHT + 3600 * NS, 4000)
    for start in range(0, 4000, 400):
        write(store, some[start : start + 400])
    if closed:
        store.close()
        compact(tmp_path, DAY, 64)
        for name in (f"d{DAY}", f"r{DAY}"):
            new = tmp_path / f"{name}.duckdb.new"
            new.replace(days.path_of(tmp_path, name))
        days.path_of(tmp_path, f"d{DAY}").unlink()  # old days have nothing but roll-ups
        store = open_store(config(tmp_path, window_cells=2000))
    start, end = some[0].t_ns, some[0].t_ns + 4000 * NS
    exact = values(some).reshape(40, 100, len(SERIES))
    curve = store.archive.curve(SERIES[7].key, start, end - 1, points=40)
    np.testing.assert_allclose(curve.low, np.nanmin(exact[:, :, 7], axis=1))
    np.testing.assert_allclose(curve.high, np.nanmax(exact[:, :, 7], axis=1))
    np.testing.assert_allclose(curve.mean, np.nanmean(exact[:, :, 7], axis=1), rtol=1e-5)
    window = store.archive.window(start, end)
    assert len(window.t_ns) in (14, 400)
    by_hand = np.nanmean(values(some[:3900]).reshape(13, 300, len(SERIES)), axis=1)
    if len(window.t_ns) == 14:
        np.testing.assert_allclose(window.values[:13], by_hand, rtol=1e-5)
    store.close()


def torn(store):
    """What a reader beside the writer finds wrong, if anything."""
    window = store.archive.window(MIDNIGHT - 600 * NS, MIDNIGHT + 600 * NS)
    store.archive.curve(SERIES[0].key, MIDNIGHT - 600 * NS, MIDNIGHT + 600 * NS, points=20)
    store.archive.query("SELECT count(*) FROM samples")
    store.archive.alerts()
    if not (window.values == window.values[:, :1]).all():
        return "a torn frame"
    return "a missing frame" if len(np.unique(np.diff(window.t_ns))) > 1 else ""


def deliver(store):
    """What the webhook sender does, over and over."""
    store.outbox.put(OutboxItem("n", "http://x", "{}", 1))
    for item in store.outbox.due(2**62):
        store.outbox.failed(item.id, 5, "refused")
        store.outbox.delivered(item.id)
    store.writer.put(Alert("01", "A", "info", "firing", (), "", "", 1.0, "", 1.0, "rule", MIDNIGHT))


@pytest.mark.slow
def test_readers_beside_the_writer_see_whole_frames(tmp_path):
    store = open_store(config(tmp_path, batch_seconds=0.05))
    stop, problems = threading.Event(), []

    def over_and_over(action):
        while not stop.is_set():
            try:
                problems.extend(filter(None, [action(store)]))
            except Exception as error:  # noqa: BLE001 - whatever it is, the test has to tell
                problems.append(repr(error))

    threads = [threading.Thread(target=over_and_over, args=[action]) for action in (torn, torn, torn, deliver)]
    for thread in threads:
        thread.start()
    for i in range(1200):
        store.writer.put_frame(Frame(MIDNIGHT + (i - 600) * NS, SERIES, np.full(len(SERIES), float(i))))
        time.sleep(0.003)
    stop.set()
    for thread in threads:
        thread.join()
    assert not problems, problems[:3]
    assert store.writer.stats.failures == 0, store.writer.stats.last_error
    assert len(store.archive.window(0, 2**62).t_ns) == 1200
    store.close()


def test_a_full_queue_drops_and_counts(tmp_path):
    store = open_store(config(tmp_path, queue_frames=5))
    taken = [store.writer.put_frame(frame) for frame in frames(MIDNIGHT, 8)]
    assert taken == [True] * 5 + [False] * 3
    assert store.writer.stats.dropped_frames == 3
    assert store.writer.stats.dropped_rows == 3 * len(SERIES)
    assert store.writer.flush()
    assert store.writer.put_frame(frames(MIDNIGHT + 60 * NS, 1)[0])
    store.close()
    assert not store.writer.put_frame(frames(MIDNIGHT, 1)[0])


def test_alerts_and_incidents_show_their_latest_state(tmp_path):
    store = open_store(config(tmp_path))
    put = store.writer.put
    base = Alert("01", "MemoryLow", "warning", "pending", labels(node="0"), "low", "x", 1.0, "ratio", float("nan"),
                 "rule", MIDNIGHT)
    firing = dataclasses.replace(base, state="firing", firing_ns=MIDNIGHT + NS, incident_id="2026-11-20-0001")
    again = dataclasses.replace(firing, pending_ns=MIDNIGHT + 60 * NS)
    resolved = dataclasses.replace(firing, state="resolved", resolved_ns=MIDNIGHT + 5 * NS)
    for item in (base, firing, Incident("2026-11-20-0001", MIDNIGHT, (firing,)), resolved, again,
                 Incident("2026-11-20-0001", MIDNIGHT, (resolved, again), report="ready")):
        assert put(item)
    alerts = store.archive.alerts()
    assert [(a.state, a.pending_ns) for a in alerts] == [("firing", again.pending_ns), ("resolved", MIDNIGHT)]
    assert repr(alerts[0]) == repr(again)
    assert [a.pending_ns for a in store.archive.alerts(firing_only=True)] == [again.pending_ns]
    incident = store.archive.incident("2026-11-20-0001")
    assert incident.report == "ready"
    assert len(incident.alerts) == 2
    assert store.archive.incident("nope") is None
    assert [i.id for i in store.archive.incidents()] == ["2026-11-20-0001"]
    assert store.archive.incidents(since_ns=MIDNIGHT + 1) == []
    assert store.archive.report("nope") is None
    store.close()


def test_unknown_series_and_empty_ranges(tmp_path):
    store = open_store(config(tmp_path))
    assert store.archive.curve("nope", 0, 2**60) is None
    assert len(store.archive.window(0, 2**62).t_ns) == 0
    write(store, frames(MIDNIGHT, 3))
    assert store.archive.curve("nope", MIDNIGHT, MIDNIGHT + NS) is None
    assert len(store.archive.curve(SERIES[0].key, 5, 10).t_ns) == 0
    assert store.archive.window(MIDNIGHT, MIDNIGHT + NS, names=["nope"]).values.shape == (2, 0)
    assert store.archive.window(MIDNIGHT, MIDNIGHT + NS, names=[]).values.shape == (2, 0)
    assert store.archive.window(MIDNIGHT + NS, MIDNIGHT).values.shape[0] == 0
    store.close()


def test_numbers_of_series_go_on_after_a_restart(tmp_path):
    store = open_store(config(tmp_path))
    write(store, frames(MIDNIGHT, 3))
    store.close()
    store = open_store(config(tmp_path))
    extra = (Series("cpu_load1", "1"), *reversed(SERIES))
    row = np.arange(21.0)
    write(store, [Frame(MIDNIGHT + 10 * NS, extra, row)])
    window = store.archive.window(MIDNIGHT + 10 * NS, MIDNIGHT + 10 * NS)
    got = dict(zip(window.series, window.values[0].tolist(), strict=True))
    assert got == dict(zip(extra, row.tolist(), strict=True))
    store.close()
