"""Memory that DuckDB gives back: what it caches of the open day has a bound, and nobody misses a sample for it."""

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from etio.core.errors import StoreError
from etio.core.frame import Frame
from etio.core.series import Series, labels
from etio.store import days, relief
from etio.store.database import Database
from etio.store.duck import held_bytes
from etio.store.store import open_store
from tests.store_rig import config, wait_until, write

NS = 1_000_000_000
DAY = "20261120"
NOON = days.start_of(DAY) + 12 * 3600 * NS
SERIES = tuple(Series("disk_busy_ratio", "ratio", "gauge", labels(device=f"sd{i}")) for i in range(20))


def frames(first, count):
    return [Frame(NOON + i * NS, SERIES, np.full(len(SERIES), float(i))) for i in range(first, first + count)]


@pytest.fixture
def eager(monkeypatch):
    """After each batch, however little there is to give back."""
    monkeypatch.setattr(relief, "GROWN", -(1 << 40))
    monkeypatch.setattr(relief, "PAUSE_NS", 0)


def relieved(store):
    return store.writer._upkeep.relief.count


def test_nothing_is_lost_when_the_day_is_opened_again_after_each_batch(tmp_path, eager):
    store = open_store(config(tmp_path))
    for i in range(0, 60, 10):
        write(store, frames(i, 10))
        wait_until(lambda done=i // 10: relieved(store) > done)
        assert store.archive.window(0, 2**62).values[:, 0].tolist() == [float(n) for n in range(i + 10)]
    assert store.writer.stats.failures == 0, store.writer.stats.last_error
    store.close()
    again = open_store(config(tmp_path))
    assert len(again.archive.window(0, 2**62).t_ns) == 60
    again.close()


def test_roll_ups_go_on_after_the_day_was_opened_again(tmp_path, eager):
    store = open_store(config(tmp_path))
    for i in range(0, 2000, 400):
        write(store, frames(i, 400))
        wait_until(lambda done=i // 400: relieved(store) > done)
    write(store, frames(2000, 1))
    assert len(store.archive.curve(SERIES[0].key, NOON, NOON + 2000 * NS, points=10).t_ns) >= 10
    store.close()


def test_readers_beside_it_see_whole_frames(tmp_path, eager):
    store = open_store(config(tmp_path, batch_seconds=0.05))
    stop, problems = threading.Event(), []

    def read_over_and_over():
        while not stop.is_set():
            try:
                window = store.archive.window(0, 2**62)
                if len(np.unique(np.diff(window.t_ns))) > 1:
                    problems.append("a missing frame")
                store.archive.query("SELECT count(*) FROM samples")
            except Exception as error:  # noqa: BLE001 - whatever it is, the test has to tell
                problems.append(repr(error))

    threads = [threading.Thread(target=read_over_and_over) for _ in range(2)]
    for thread in threads:
        thread.start()
    for i in range(0, 400, 10):
        write(store, frames(i, 10))
    stop.set()
    for thread in threads:
        thread.join()
    assert not problems, problems[:3]
    assert store.writer.stats.failures == 0, store.writer.stats.last_error
    assert len(store.archive.window(0, 2**62).t_ns) == 400
    store.close()


def test_a_file_that_is_read_stays_open(tmp_path, eager):
    store = open_store(config(tmp_path))
    write(store, frames(0, 10))
    wait_until(lambda: relieved(store) == 1)
    name = days.raw_name(DAY)
    with store.database.reading([name]) as (cursor, present):
        assert present == (name,)
        assert not store.database.opened_again(name)
        assert cursor.execute(f"SELECT count(*) FROM {name}.frames").fetchone() == (10,)
    assert store.database.opened_again(name)
    store.close()


def test_a_day_that_cannot_be_opened_again_is_opened_with_the_next_batch(tmp_path, eager, monkeypatch):
    store, failed = open_store(config(tmp_path)), []
    attach = Database._attach

    def refuse_once(self, name, writable):
        if name == days.raw_name(DAY) and store.writer.stats.batches and not failed:
            failed.append(name)
            raise StoreError("cannot be opened just now")
        attach(self, name, writable)

    monkeypatch.setattr(Database, "_attach", refuse_once)
    write(store, frames(0, 10))
    wait_until(lambda: store.writer.stats.failures == 1)
    assert store.writer.stats.last_error == "cannot be opened just now"
    write(store, frames(10, 10))
    wait_until(lambda: relieved(store) == 1)
    assert store.archive.window(0, 2**62).values[:, 0].tolist() == [float(n) for n in range(20)]
    store.close()


def test_a_small_day_is_left_alone(tmp_path):
    store = open_store(config(tmp_path))
    for i in range(0, 30, 10):
        write(store, frames(i, 10))
    assert relieved(store) == 0
    store.close()


BOUND = """
import sys, time
import numpy as np
from etio.core.frame import Frame
from etio.core.series import Series, labels
from etio.store.config import StoreConfig
from etio.store.duck import held_bytes
from etio.store.store import open_store

NS = 10**9
store = open_store(StoreConfig(directory=sys.argv[1], batch_seconds=60.0, min_free_bytes=0, queue_frames=10**6))
series = tuple(Series("disk_busy_ratio", "ratio", "gauge", labels(device=f"sd{i}")) for i in range(1000))
rng, t_ns = np.random.default_rng(1), 1_700_000_100 * NS

def minute():
    global t_ns
    for _ in range(60):
        t_ns += NS
        store.writer.put_frame(Frame(t_ns, series, rng.random(1000)))
    assert store.writer.flush(60), store.writer.stats.last_error

for _ in range(25):
    minute()
store.archive.query("SELECT name, count(*), max(value) FROM samples GROUP BY 1")
full = held_bytes()
minute()
until = time.monotonic() + 30
while held_bytes() > 7e6 and time.monotonic() < until:
    time.sleep(0.01)
print(full, held_bytes(), store.writer._upkeep.relief.count, store.writer.stats.failures)
store.close()
"""


@pytest.mark.slow
@pytest.mark.skipif(not held_bytes(), reason="this DuckDB does not say what it holds")
def test_what_is_cached_has_a_bound(tmp_path):
    """25 minutes of a thousand series, SQL over all of them, and another minute."""
    run = subprocess.run([sys.executable, "-c", BOUND, str(tmp_path)], capture_output=True, text=True, check=False,
                         timeout=300, cwd=Path(relief.__file__).parents[2])
    assert run.returncode == 0, run.stderr
    full, after, count, failures = map(int, run.stdout.split())
    assert count >= 2
    assert failures == 0
    assert full > 12e6, "there was something to give back"
    assert after < 8e6
